//! T5's encoder.
//!
//! Architecture: <https://github.com/huggingface/transformers/blob/main/src/transformers/models/t5/modeling_t5.py>

use anyhow::Result;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::checkpoints::Weights;
use crate::error::usage;
use crate::nn::{Activation, Embedding, Linear, RmsNorm, join_heads, split_heads};

/// `config.json` of the encoder; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub vocab_size: i64,
    pub d_model: i64,
    pub d_kv: i64,
    pub d_ff: i64,
    pub num_layers: usize,
    pub num_heads: i64,
    pub relative_attention_num_buckets: i64,
    pub relative_attention_max_distance: i64,
    pub layer_norm_epsilon: f64,
    /// `relu`, `gated-gelu`, …
    pub feed_forward_proj: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".to_string(),
        }
    }
}

impl Config {
    /// The activation, and whether it is gated. `gated-gelu` means the tanh approximation.
    fn activation(&self) -> Result<(Activation, bool)> {
        Ok(match self.feed_forward_proj.as_str() {
            "relu" => (Activation::Relu, false),
            "gelu" => (Activation::Gelu, false),
            "silu" => (Activation::Silu, false),
            "gelu_new" => (Activation::GeluPytorchTanh, false),
            "gated-relu" => (Activation::Relu, true),
            "gated-silu" => (Activation::Silu, true),
            "gated-gelu" | "gated-gelu_new" => (Activation::GeluPytorchTanh, true),
            other => return Err(usage(format!("T5: feed_forward_proj {other:?} is not known"))),
        })
    }
}

#[derive(Debug)]
struct SelfAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    heads: i64,
}

impl SelfAttention {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let (size, inner) = (config.d_model, config.num_heads * config.d_kv);
        let project = |name: &str| Linear::without_bias(&weights.at(name), size, inner);
        let o = Linear::without_bias(&weights.at("o"), inner, size)?;
        Ok(Self { q: project("q")?, k: project("k")?, v: project("v")?, o, heads: config.num_heads })
    }

    /// Scores are not scaled: T5 folds the scale into its weights.
    fn forward(&self, x: &Tensor, bias: &Tensor) -> Tensor {
        let heads = |linear: &Linear| split_heads(&linear.forward(x), self.heads);
        let (q, k, v) = (heads(&self.q), heads(&self.k), heads(&self.v));
        let out = Tensor::scaled_dot_product_attention(&q, &k, &v, Some(bias), 0.0, false, 1.0, false);
        self.o.forward(&join_heads(&out))
    }
}

#[derive(Debug)]
struct FeedForward {
    wi: Linear,
    /// The part that the gate is multiplied with.
    wi_1: Option<Linear>,
    wo: Linear,
    act: Activation,
}

impl FeedForward {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let (act, gated) = config.activation()?;
        let (size, inner) = (config.d_model, config.d_ff);
        // In float16 the sums of `wo` leave the range of the type, so it stays in float32.
        let wide = if weights.kind() == Kind::Half { Kind::Float } else { weights.kind() };
        let wi = |name: &str| Linear::without_bias(&weights.at(name), size, inner);
        Ok(Self {
            wi: wi(if gated { "wi_0" } else { "wi" })?,
            wi_1: gated.then(|| wi("wi_1")).transpose()?,
            wo: Linear::without_bias(&weights.at("wo").with_kind(wide), inner, size)?,
            act,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let mut inner = self.act.apply(&self.wi.forward(x));
        if let Some(wi_1) = &self.wi_1 {
            inner *= wi_1.forward(x);
        }
        self.wo.forward(&inner.to_kind(self.wo.kind()))
    }
}

#[derive(Debug)]
struct Block {
    attention: SelfAttention,
    attention_norm: RmsNorm,
    feed_forward: FeedForward,
    feed_forward_norm: RmsNorm,
}

impl Block {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let (first, second) = (weights.at("layer.0"), weights.at("layer.1"));
        let norm = |at: &Weights| RmsNorm::new(&at.at("layer_norm"), config.d_model, config.layer_norm_epsilon);
        Ok(Self {
            attention: SelfAttention::new(&first.at("SelfAttention"), config)?,
            attention_norm: norm(&first)?,
            feed_forward: FeedForward::new(&second.at("DenseReluDense"), config)?,
            feed_forward_norm: norm(&second)?,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor) -> Tensor {
        let x = finite(x + self.attention.forward(&self.attention_norm.forward(x), bias));
        finite(&x + self.feed_forward.forward(&self.feed_forward_norm.forward(&x)))
    }
}

/// In float16, infinities become the largest number less 1000, as in the reference.
fn finite(x: Tensor) -> Tensor {
    if x.kind() == Kind::Half { x.clamp(-64504.0, 64504.0) } else { x }
}

/// The encoder.
#[derive(Debug)]
pub struct T5Encoder {
    shared: Embedding,
    relative_attention_bias: Embedding,
    block: Vec<Block>,
    final_layer_norm: RmsNorm,
    buckets: i64,
    max_distance: i64,
}

impl T5Encoder {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        if config.relative_attention_num_buckets < 4 || config.num_layers == 0 {
            return Err(usage(format!(
                "a T5 encoder of {} layers and {} buckets cannot be",
                config.num_layers, config.relative_attention_num_buckets
            )));
        }
        let encoder = weights.at("encoder");
        // One table under two names: files carry either or both.
        let tied = encoder.at("embed_tokens");
        let only_tied = tied.contains("weight") && !weights.at("shared").contains("weight");
        let table = if only_tied { tied.clone() } else { weights.at("shared") };
        tied.ignore();
        let bias = encoder.at("block.0.layer.0.SelfAttention.relative_attention_bias");
        let block = |i| Block::new(&encoder.at("block").at(i), config);
        Ok(Self {
            shared: Embedding::new(&table, config.vocab_size, config.d_model)?,
            relative_attention_bias: Embedding::new(&bias, config.relative_attention_num_buckets, config.num_heads)?,
            block: (0..config.num_layers).map(block).collect::<Result<_>>()?,
            final_layer_norm: RmsNorm::new(&encoder.at("final_layer_norm"), config.d_model, config.layer_norm_epsilon)?,
            buckets: config.relative_attention_num_buckets,
            max_distance: config.relative_attention_max_distance,
        })
    }

    /// `ids`: int64 [batch, tokens] → [batch, tokens, d_model]. Padding is seen like any other token:
    /// image pipelines pass no mask.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        let bias = self.position_bias(ids.size()[1], ids.device());
        let mut x = self.shared.forward(ids);
        for block in &self.block {
            x = block.forward(&x, &bias);
        }
        self.final_layer_norm.forward(&x)
    }

    /// What every head adds to a score for the distance of its two tokens: [1, heads, tokens, tokens].
    fn position_bias(&self, tokens: i64, device: Device) -> Tensor {
        let places = Tensor::arange(tokens, (Kind::Int64, device));
        let distance = places.unsqueeze(0) - places.unsqueeze(1); // [queries, keys]
        let bias = self.relative_attention_bias.forward(&self.bucket(&distance)); // [queries, keys, heads]
        bias.permute([2, 0, 1]).unsqueeze(0).contiguous()
    }

    /// Half of the buckets for each direction; half of those for one distance each, the rest wider
    /// and wider up to the largest distance.
    fn bucket(&self, distance: &Tensor) -> Tensor {
        let half = self.buckets / 2;
        let exact = half / 2;
        let far = distance.abs();
        let log_range = (self.max_distance as f64 / exact as f64).ln();
        let wide = (far.to_kind(Kind::Float) / exact as f64).log() / log_range * (half - exact) as f64;
        let wide = (wide.to_kind(Kind::Int64) + exact).clamp_max(half - 1);
        far.where_self(&far.lt(exact), &wide) + distance.gt(0).to_kind(Kind::Int64) * half
    }
}
