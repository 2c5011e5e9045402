//! Where the parts of the pipeline come from: a folder in diffusers' layout, or, to measure speed,
//! random weights at the published size.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::{Device, Kind};

use crate::checkpoints::{Checkpoint, Weights};

/// A part with weights: its folder and the name of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub folder: &'static str,
    pub stem: &'static str,
    /// Parameters of the published model.
    parameters: u64,
}

pub const CLIP_L: Part = Part { folder: "text_encoder", stem: "model", parameters: 123_650_304 };
pub const CLIP_G: Part = Part { folder: "text_encoder_2", stem: "model", parameters: 694_659_840 };
pub const T5: Part = Part { folder: "text_encoder_3", stem: "model", parameters: 4_762_310_656 };
pub const TRANSFORMER: Part =
    Part { folder: "transformer", stem: "diffusion_pytorch_model", parameters: 2_084_951_104 };
pub const VAE: Part = Part { folder: "vae", stem: "diffusion_pytorch_model", parameters: 83_819_683 };

/// The configuration files of stabilityai/stable-diffusion-3-medium-diffusers.
const PUBLISHED: &str = r#"{
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

/// Where configurations and weights come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// What `save_pretrained` of diffusers writes.
    Folder(PathBuf),
    /// The published sizes, with weights that are drawn on the device.
    Random,
}

impl Source {
    /// The configuration of a part: `config.json`, or `scheduler_config.json` of the scheduler.
    pub fn config<T: DeserializeOwned>(&self, part: &str) -> Result<T> {
        match self {
            Self::Random => Ok(serde_json::from_value(self.published(part)?)?),
            Self::Folder(folder) => {
                let name = if part == "scheduler" { "scheduler_config.json" } else { "config.json" };
                let file = folder.join(part).join(name);
                let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("{}: not a configuration", file.display()))
            }
        }
    }

    /// Whether the pipeline has a part: `model_index.json` says `[null, null]` of one that was left out.
    pub fn has(&self, part: &str) -> Result<bool> {
        let index = match self {
            Self::Random => self.published("model_index")?,
            Self::Folder(folder) => {
                let file = folder.join("model_index.json");
                let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("{}: not JSON", file.display()))?
            }
        };
        Ok(index[part][1].is_string())
    }

    /// The place to build a part from.
    pub fn weights(&self, part: Part, device: Device, kind: Kind) -> Result<Weights> {
        match self {
            Self::Random => Ok(Weights::random(device, kind)),
            Self::Folder(folder) => {
                Ok(Checkpoint::open_dir(&folder.join(part.folder), part.stem)?.weights(device, kind))
            }
        }
    }

    /// Bytes that a part takes on the device.
    pub fn bytes(&self, part: Part, kind: Kind) -> Result<u64> {
        let parameters = match self {
            Self::Random => part.parameters,
            Self::Folder(folder) => {
                let checkpoint = Checkpoint::open_dir(&folder.join(part.folder), part.stem)?;
                let size = |name| checkpoint.entry(name).map_or(0, |entry| entry.shape.iter().product::<i64>());
                checkpoint.names().map(size).sum::<i64>() as u64
            }
        };
        Ok(parameters * kind.elt_size_in_bytes() as u64)
    }

    fn published(&self, part: &str) -> Result<Value> {
        let mut all: Value = serde_json::from_str(PUBLISHED)?;
        match all.get_mut(part) {
            Some(config) => Ok(config.take()),
            None => bail!("no published configuration of {part}"),
        }
    }
}
