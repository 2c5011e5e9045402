//! CLIP's vision encoder, up to its projection.
//!
//! Architecture: <https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/modeling_clip.py>

use anyhow::Result;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::image_processor::ImageProcessor;
use crate::checkpoints::Weights;
use crate::error::usage;
use crate::models::text::clip_layer::{Layer, Sizes};
use crate::nn::{Activation, Conv2d, LayerNorm};

/// `vision_config` of a `config.json`; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub num_channels: i64,
    pub image_size: i64,
    pub patch_size: i64,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl VisionConfig {
    /// Refuses sizes that do not fit each other, or the pictures that `processor` makes; `title` names the network.
    pub fn check(&self, title: &str, processor: &ImageProcessor) -> Result<()> {
        let side = self.image_size;
        if self.num_hidden_layers > 0
            && self.hidden_size % self.num_attention_heads.max(1) == 0
            && (1..=side).contains(&self.patch_size)
            && processor.crop() == (side, side)
        {
            return Ok(());
        }
        Err(usage(format!(
            "{title} of {} layers, {} heads (num_attention_heads of hidden_size) and pictures of {side} (image_size) in \
             patches of {} cannot be, or is fed pictures of {:?} (crop_size)",
            self.num_hidden_layers,
            self.num_attention_heads,
            self.patch_size,
            processor.crop()
        )))
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.hidden_size,
            intermediate: self.intermediate_size,
            heads: self.num_attention_heads,
            act: self.hidden_act,
            eps: self.layer_norm_eps,
            causal: false,
        }
    }
}

/// The vision encoder.
#[derive(Debug)]
pub struct ClipVision {
    class_embedding: Tensor,
    patch_embedding: Conv2d,
    position_embedding: Tensor,
    pre_layrnorm: LayerNorm,
    layers: Vec<Layer>,
    post_layernorm: LayerNorm,
    kind: Kind,
}

impl ClipVision {
    /// `weights`: the place of `embeddings` and `encoder`.
    pub fn new(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        let (size, eps, embeddings) = (config.hidden_size, config.layer_norm_eps, weights.at("embeddings"));
        let places = (config.image_size / config.patch_size).pow(2) + 1;
        let sizes = config.sizes();
        let layer = |i| Layer::new(&weights.at("encoder.layers").at(i), &sizes);
        let patch_embedding = Conv2d::without_bias(
            &embeddings.at("patch_embedding"),
            config.num_channels,
            size,
            config.patch_size,
            config.patch_size,
            0,
        )?;
        Ok(Self {
            class_embedding: embeddings.get("class_embedding", &[size])?,
            patch_embedding,
            position_embedding: embeddings.at("position_embedding").get("weight", &[places, size])?,
            pre_layrnorm: LayerNorm::new(&weights.at("pre_layrnorm"), size, eps)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            post_layernorm: LayerNorm::new(&weights.at("post_layernorm"), size, eps)?,
            kind: weights.kind(),
        })
    }

    /// What the class token ends as, after the last norm: [batch, 3, side, side] → [batch, hidden]
    pub fn forward(&self, pixels: &Tensor) -> Tensor {
        let x = self.layers.iter().fold(self.embed(pixels), |x, layer| layer.forward(&x));
        self.post_layernorm.forward(&x.select(1, 0))
    }

    /// What the last layer reads, of all places, which no norm has seen: [batch, 3, side, side] → [batch, 1 + patches, hidden]
    pub fn penultimate(&self, pixels: &Tensor) -> Tensor {
        let before = &self.layers[..self.layers.len().saturating_sub(1)];
        before.iter().fold(self.embed(pixels), |x, layer| layer.forward(&x))
    }

    /// What the first layer reads.
    fn embed(&self, pixels: &Tensor) -> Tensor {
        let patches = self.patch_embedding.forward(&pixels.to_kind(self.kind)).flatten(2, 3).transpose(1, 2);
        let size = patches.size();
        let class = self.class_embedding.expand([size[0], 1, size[2]], false);
        let x = Tensor::cat(&[class, patches], 1) + &self.position_embedding; // [batch, 1 + patches, hidden]
        self.pre_layrnorm.forward(&x)
    }
}
