//! `config.json` of a BLIP checkpoint. Values that a file may leave out are transformers' defaults.

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::nn::Activation;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub text_config: TextConfig,
    pub vision_config: VisionConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub image_size: i64,
    pub patch_size: i64,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub max_position_embeddings: i64,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    pub bos_token_id: i64,
    pub pad_token_id: i64,
    /// Ends a caption.
    pub sep_token_id: i64,
}

impl Config {
    /// Refuses sizes that do not fit each other, and tokens that are not in the vocabulary.
    pub fn check(&self) -> Result<()> {
        let (text, vision) = (&self.text_config, &self.vision_config);
        for (part, size, heads) in [
            ("text_config", text.hidden_size, text.num_attention_heads),
            ("vision_config", vision.hidden_size, vision.num_attention_heads),
        ] {
            ensure!(
                heads > 0 && size % heads == 0,
                "{part}: hidden_size {size} is not a multiple of num_attention_heads {heads}"
            );
        }
        let (side, patch) = (vision.image_size, vision.patch_size);
        ensure!((1..=side).contains(&patch), "vision_config: patch_size {patch} does not fit image_size {side}");
        for (key, id) in [
            ("bos_token_id", text.bos_token_id),
            ("pad_token_id", text.pad_token_id),
            ("sep_token_id", text.sep_token_id),
        ] {
            ensure!(id < text.vocab_size, "text_config: {key} is {id}, and vocab_size {}", text.vocab_size);
        }
        Ok(())
    }
}

impl Config {
    /// Keys and values that the text decoder keeps of a picture.
    pub fn numbers_per_picture(&self) -> i64 {
        let (text, vision) = (&self.text_config, &self.vision_config);
        let tokens = 1 + (vision.image_size / vision.patch_size).pow(2);
        2 * text.num_hidden_layers as i64 * text.hidden_size * tokens
    }
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 384,
            patch_size: 16,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30524,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 512,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            bos_token_id: 30522,
            pad_token_id: 0,
            sep_token_id: 102,
        }
    }
}
