//! CLIP's text encoder, with or without the projection.
//!
//! Architecture: <https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/modeling_clip.py>

use anyhow::Result;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::checkpoints::Weights;
use crate::error::usage;
use crate::nn::{Activation, Embedding, LayerNorm, Linear, causal_attention, join_heads, split_heads};

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

#[derive(Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: i64,
}

impl Attention {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let size = config.hidden_size;
        let linear = |name: &str| Linear::new(&weights.at(name), size, size);
        Ok(Self {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            out_proj: linear("out_proj")?,
            heads: config.num_attention_heads,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let heads = |linear: &Linear| split_heads(&linear.forward(x), self.heads);
        let out = causal_attention(&heads(&self.q_proj), &heads(&self.k_proj), &heads(&self.v_proj));
        self.out_proj.forward(&join_heads(&out))
    }
}

#[derive(Debug)]
struct Layer {
    self_attn: Attention,
    layer_norm1: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    layer_norm2: LayerNorm,
    act: Activation,
}

impl Layer {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let (size, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        Ok(Self {
            self_attn: Attention::new(&weights.at("self_attn"), config)?,
            layer_norm1: LayerNorm::new(&weights.at("layer_norm1"), size, eps)?,
            fc1: Linear::new(&weights.at("mlp.fc1"), size, inner)?,
            fc2: Linear::new(&weights.at("mlp.fc2"), inner, size)?,
            layer_norm2: LayerNorm::new(&weights.at("layer_norm2"), size, eps)?,
            act: config.hidden_act,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x + self.self_attn.forward(&self.layer_norm1.forward(x));
        let inner = self.act.apply(&self.fc1.forward(&self.layer_norm2.forward(&x)));
        x + self.fc2.forward(&inner)
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
                "a CLIP text encoder of {} layers, hidden size {} and {} heads cannot be",
                config.num_hidden_layers, config.hidden_size, config.num_attention_heads
            )));
        }
        let bare = weights.contains("embeddings.token_embedding.weight");
        let text_model = if bare { weights.clone() } else { weights.at("text_model") };
        let (embeddings, size) = (text_model.at("embeddings"), config.hidden_size);
        let positions = [config.max_position_embeddings, size];
        let layer = |i| Layer::new(&text_model.at("encoder.layers").at(i), config);
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
