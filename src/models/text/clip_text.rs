//! CLIP's text encoder, with or without the projection.
//!
//! Architecture: <https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/modeling_clip.py>

use anyhow::Result;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::clip_layer::{Layer, Sizes};
use crate::checkpoints::Weights;
use crate::error::usage;
use crate::nn::{Activation, Embedding, LayerNorm, Linear};

/// `config.json` of a text encoder; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub projection_dim: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub max_position_embeddings: i64,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    pub eos_token_id: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

impl Config {
    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.hidden_size,
            intermediate: self.intermediate_size,
            heads: self.num_attention_heads,
            act: self.hidden_act,
            eps: self.layer_norm_eps,
            causal: true,
        }
    }
}

/// What the encoder makes of a batch of texts.
#[derive(Debug)]
pub struct ClipTextOutput {
    /// What goes into the last layer: [batch, tokens, hidden]. Stable Diffusion 3 reads this.
    pub penultimate: Tensor,
    /// After the final norm: [batch, tokens, hidden]. Stable Diffusion 1 reads this.
    pub last: Tensor,
    /// The end token's state, projected where the checkpoint has a projection: [batch, projection].
    pub pooled: Tensor,
}

/// The text encoder.
#[derive(Debug)]
pub struct ClipText {
    token_embedding: Embedding,
    position_embedding: Tensor,
    layers: Vec<Layer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    eos_token_id: i64,
}

impl ClipText {
    /// With `projection`, as `CLIPTextModelWithProjection`; without, as `CLIPTextModel`, whose files
    /// name their tensors with or without the prefix `text_model`.
    pub fn new(weights: &Weights, config: &Config, projection: bool) -> Result<Self> {
        if config.num_hidden_layers == 0 || config.hidden_size % config.num_attention_heads.max(1) != 0 {
            return Err(usage(format!(
                "a CLIP text encoder of {} layers (num_hidden_layers), width {} (hidden_size) and {} heads \
                 (num_attention_heads) cannot be",
                config.num_hidden_layers, config.hidden_size, config.num_attention_heads
            )));
        }
        let bare = weights.contains("embeddings.token_embedding.weight");
        let text_model = if bare { weights.clone() } else { weights.at("text_model") };
        let (embeddings, size) = (text_model.at("embeddings"), config.hidden_size);
        let positions = [config.max_position_embeddings, size];
        let layer = |i| Layer::new(&text_model.at("encoder.layers").at(i), &config.sizes());
        let project = || Linear::without_bias(&weights.at("text_projection"), size, config.projection_dim);
        Ok(Self {
            token_embedding: Embedding::new(&embeddings.at("token_embedding"), config.vocab_size, size)?,
            position_embedding: embeddings.at("position_embedding").get("weight", &positions)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::new(&text_model.at("final_layer_norm"), size, config.layer_norm_eps)?,
            text_projection: projection.then(project).transpose()?,
            eos_token_id: config.eos_token_id,
        })
    }

    /// `ids`: int64 [batch, tokens], on the encoder's device.
    pub fn forward(&self, ids: &Tensor) -> ClipTextOutput {
        let tokens = ids.size()[1];
        let mut x = self.token_embedding.forward(ids) + self.position_embedding.narrow(0, 0, tokens);
        let mut penultimate = x.shallow_clone();
        for layer in &self.layers {
            penultimate = x.shallow_clone();
            x = layer.forward(&x);
        }
        let last = self.final_layer_norm.forward(&x);
        let pooled =
            last.gather(1, &self.end_positions(ids).view([-1, 1, 1]).expand([-1, 1, last.size()[2]], false), false);
        let pooled = pooled.squeeze_dim(1);
        let pooled =
            self.text_projection.as_ref().map_or_else(|| pooled.shallow_clone(), |linear| linear.forward(&pooled));
        ClipTextOutput { penultimate, last, pooled }
    }

    /// Where each text ends. Published configurations say 2, which was never the end token: there it
    /// is the largest id, of which the first counts.
    fn end_positions(&self, ids: &Tensor) -> Tensor {
        if self.eos_token_id == 2 {
            return ids.to_kind(Kind::Int).argmax(-1, false);
        }
        ids.eq(self.eos_token_id).to_kind(Kind::Int).argmax(-1, false)
    }
}
