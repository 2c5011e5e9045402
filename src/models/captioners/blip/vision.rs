//! The picture encoder: a pre-norm ViT with a class token.

use anyhow::Result;
use tch::Tensor;

use super::config::VisionConfig;
use crate::checkpoints::Weights;
use crate::nn::{Activation, Conv2d, LayerNorm, Linear, attention, join_heads, split_heads};

#[derive(Debug)]
struct Embeddings {
    class_embedding: Tensor,
    position_embedding: Tensor,
    patch_embedding: Conv2d,
}

impl Embeddings {
    fn new(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        let (size, patch) = (config.hidden_size, config.patch_size);
        let positions = (config.image_size / patch).pow(2) + 1;
        Ok(Self {
            class_embedding: weights.get("class_embedding", &[1, 1, size])?,
            position_embedding: weights.get("position_embedding", &[1, positions, size])?,
            patch_embedding: Conv2d::new(&weights.at("patch_embedding"), 3, size, patch, patch, 0)?,
        })
    }

    /// [batch, 3, side, side] → [batch, 1 + patches, hidden], and what is still to be added to each.
    fn forward(&self, pixels: &Tensor) -> (Tensor, Tensor) {
        let patches = self.patch_embedding.patches(pixels);
        let class = self.class_embedding.expand([pixels.size()[0], 1, -1], false);
        (Tensor::cat(&[class, patches], 1), self.position_embedding.shallow_clone())
    }
}

#[derive(Debug)]
struct Attention {
    qkv: Linear,
    projection: Linear,
    heads: i64,
}

impl Attention {
    fn new(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        let size = config.hidden_size;
        Ok(Self {
            qkv: Linear::new(&weights.at("qkv"), size, 3 * size)?.packed(),
            projection: Linear::new(&weights.at("projection"), size, size)?.packed(),
            heads: config.num_attention_heads,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let qkv = split_heads(&self.qkv.forward(x), 3 * self.heads); // [batch, 3 · heads, tokens, head_dim]
        let part = |n: i64| qkv.narrow(1, n * self.heads, self.heads);
        self.projection.forward(&join_heads(&attention(&part(0), &part(1), &part(2), None)))
    }
}

#[derive(Debug)]
struct Layer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    fc1: Linear,
    activation: Activation,
    fc2: Linear,
}

impl Layer {
    fn new(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        let (size, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        Ok(Self {
            layer_norm1: LayerNorm::new(&weights.at("layer_norm1"), size, eps)?,
            self_attn: Attention::new(&weights.at("self_attn"), config)?,
            layer_norm2: LayerNorm::new(&weights.at("layer_norm2"), size, eps)?,
            fc1: Linear::new(&weights.at("mlp.fc1"), size, inner)?.packed(),
            activation: config.hidden_act,
            fc2: Linear::new(&weights.at("mlp.fc2"), inner, size)?.packed(),
        })
    }

    /// States are x + y: the norm adds the two on its way. Gives the same two of what comes out.
    fn forward(&self, x: &Tensor, y: &Tensor) -> (Tensor, Tensor) {
        let (x, normed) = self.layer_norm1.add_forward(x, y);
        let (x, normed) = self.layer_norm2.add_forward(&x, &self.self_attn.forward(&normed));
        let inner = self.fc1.forward_activated(&normed, self.activation);
        (x, self.fc2.forward(&inner))
    }
}

/// Pixels → the states that the text decoder attends to.
#[derive(Debug)]
pub struct VisionModel {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    post_layernorm: LayerNorm,
}

impl VisionModel {
    pub fn new(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        let layers = (0..config.num_hidden_layers)
            .map(|n| Layer::new(&weights.at("encoder.layers").at(n), config))
            .collect::<Result<_>>()?;
        Ok(Self {
            embeddings: Embeddings::new(&weights.at("embeddings"), config)?,
            layers,
            post_layernorm: LayerNorm::new(&weights.at("post_layernorm"), config.hidden_size, config.layer_norm_eps)?,
        })
    }

    /// States of a picture: 1 + patches.
    pub fn tokens(&self) -> i64 {
        self.embeddings.position_embedding.size()[1]
    }

    /// [batch, 3, image_size, image_size], normalised → [batch, 1 + patches, hidden]
    pub fn forward(&self, pixels: &Tensor) -> Tensor {
        let states = self.embeddings.forward(pixels);
        let (x, y) = self.layers.iter().fold(states, |(x, y), layer| layer.forward(&x, &y));
        self.post_layernorm.forward_sum(&x, &y)
    }
}
