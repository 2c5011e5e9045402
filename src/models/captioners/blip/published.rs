//! The sizes of the published checkpoints, for measuring speed without them.

use super::config::{Config, TextConfig, VisionConfig};

/// `blip-base` or `blip-large`, by its name in the table of models.
pub(super) fn config(name: &str) -> Option<Config> {
    let text_config = TextConfig { num_attention_heads: 12, ..TextConfig::default() };
    let vision_config = match name {
        "blip-base" => VisionConfig::default(),
        "blip-large" => VisionConfig {
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            ..VisionConfig::default()
        },
        _ => return None,
    };
    Some(Config { text_config, vision_config })
}
