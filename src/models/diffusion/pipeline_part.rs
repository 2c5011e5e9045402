//! The parts of a pipeline, and the configurations that were published.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::models::table::Family;

/// A part with weights: its folder and the name of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub folder: &'static str,
    pub stem: &'static str,
    /// Parameters of the published model.
    pub parameters: u64,
}

/// The configuration of a part among published ones.
pub fn published_config(published: &str, part: &str) -> Result<Value> {
    let mut all: Value = serde_json::from_str(published)?;
    match all.get_mut(part) {
        Some(config) => Ok(config.take()),
        None => bail!("no published configuration of {part}"),
    }
}

/// The published configurations of a family of pipelines: JSON, by the name of the part.
pub fn published(family: Family) -> Option<&'static str> {
    match family {
        Family::StableDiffusion => Some(STABLE_DIFFUSION),
        Family::StableDiffusion3 => Some(STABLE_DIFFUSION_3),
        _ => None,
    }
}

/// The configuration files of stable-diffusion-v1-5/stable-diffusion-v1-5.
pub const STABLE_DIFFUSION: &str = r#"{
  "model_index": {"_class_name": "StableDiffusionPipeline"},
  "unet": {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 2, "attention_head_dim": 8, "cross_attention_dim": 768, "norm_num_groups": 32,
    "norm_eps": 1e-5, "act_fn": "silu", "flip_sin_to_cos": true, "freq_shift": 0, "downsample_padding": 1,
    "mid_block_scale_factor": 1, "center_input_sample": false
  },
  "text_encoder": {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "quick_gelu", "projection_dim": 768, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 2
  },
  "vae": {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32,
    "block_out_channels": [128, 256, 512, 512], "act_fn": "silu",
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
  },
  "scheduler": {
    "_class_name": "PNDMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "skip_prk_steps": true, "set_alpha_to_one": false, "steps_offset": 1
  }
}"#;

/// The configuration files of stabilityai/stable-diffusion-3-medium-diffusers.
pub const STABLE_DIFFUSION_3: &str = r#"{
  "model_index": {"_class_name": "StableDiffusion3Pipeline", "text_encoder_3": ["transformers", "T5EncoderModel"]},
  "transformer": {
    "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
    "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 192
  },
  "text_encoder": {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "quick_gelu", "projection_dim": 768, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 2
  },
  "text_encoder_2": {
    "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20, "intermediate_size": 5120,
    "hidden_act": "gelu", "projection_dim": 1280, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 2
  },
  "text_encoder_3": {
    "d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24,
    "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6, "vocab_size": 32128
  },
  "vae": {
    "in_channels": 3, "out_channels": 3, "latent_channels": 16, "layers_per_block": 2, "norm_num_groups": 32,
    "block_out_channels": [128, 256, 512, 512], "act_fn": "silu",
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
    "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": false, "use_post_quant_conv": false
  },
  "scheduler": {"num_train_timesteps": 1000, "shift": 3.0}
}"#;
