//! What configures the pipeline: its parts, and the transformer's `config.json`.

use anyhow::Result;
use serde::Deserialize;

use crate::error::usage;
use crate::models::diffusion::pipeline_part::Part;
use crate::nn::FLOAT8_UNIT;

pub const CLIP_L: Part = Part { folder: "text_encoder", stem: "model", parameters: 123_650_304 };
pub const CLIP_G: Part = Part { folder: "text_encoder_2", stem: "model", parameters: 694_659_840 };
pub const T5: Part = Part { folder: "text_encoder_3", stem: "model", parameters: 4_762_310_656 };
pub const TRANSFORMER: Part =
    Part { folder: "transformer", stem: "diffusion_pytorch_model", parameters: 2_084_951_104 };
pub const VAE: Part = Part { folder: "vae", stem: "diffusion_pytorch_model", parameters: 83_819_683 };

/// `transformer/config.json`; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub sample_size: i64,
    pub patch_size: i64,
    pub in_channels: i64,
    pub num_layers: usize,
    pub attention_head_dim: i64,
    pub num_attention_heads: i64,
    pub joint_attention_dim: i64,
    pub caption_projection_dim: i64,
    pub pooled_projection_dim: i64,
    pub out_channels: Option<i64>,
    pub pos_embed_max_size: i64,
    pub dual_attention_layers: Vec<usize>,
    pub qk_norm: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: 4096,
            caption_projection_dim: 1152,
            pooled_projection_dim: 2048,
            out_channels: Some(16),
            pos_embed_max_size: 96,
            dual_attention_layers: Vec::new(),
            qk_norm: None,
        }
    }
}

impl Config {
    /// Width of a token.
    pub(super) fn inner_dim(&self) -> i64 {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Whether all linear layers of the blocks can be in float8.
    pub(super) fn check_float8(&self) -> Result<()> {
        let size = self.inner_dim();
        if size % FLOAT8_UNIT != 0 {
            return Err(usage(format!(
                "--precision fp8 needs a transformer whose width is a multiple of {FLOAT8_UNIT}, and this one is {size} wide"
            )));
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.patch_size < 1 || self.num_layers == 0 {
            return Err(usage(format!(
                "a transformer of {} layers over patches of {} cannot be",
                self.num_layers, self.patch_size
            )));
        }
        if self.caption_projection_dim != self.inner_dim() {
            return Err(usage(format!(
                "the transformer's caption_projection_dim {} is not num_attention_heads · attention_head_dim = {}",
                self.caption_projection_dim,
                self.inner_dim()
            )));
        }
        match self.qk_norm.as_deref() {
            None | Some("rms_norm") => Ok(()),
            Some(other) => {
                Err(usage(format!("the transformer's qk_norm {other:?} is not known here: rms_norm or null")))
            }
        }
    }
}
