//! The transformer layer that CLIP's text and vision encoders share.
//!
//! Architecture: <https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/modeling_clip.py>

use anyhow::Result;
use tch::Tensor;

use crate::checkpoints::Weights;
use crate::nn::{Activation, LayerNorm, Linear, attention, causal_attention, join_heads, split_heads};

/// The sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub hidden: i64,
    pub intermediate: i64,
    pub heads: i64,
    pub act: Activation,
    pub eps: f64,
    /// Whether a token sees only what is before it, as in texts.
    pub causal: bool,
}

#[derive(Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: i64,
    causal: bool,
}

impl Attention {
    fn new(weights: &Weights, sizes: &Sizes) -> Result<Self> {
        let linear = |name: &str| Linear::new(&weights.at(name), sizes.hidden, sizes.hidden);
        Ok(Self {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            out_proj: linear("out_proj")?,
            heads: sizes.heads,
            causal: sizes.causal,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let heads = |linear: &Linear| split_heads(&linear.forward(x), self.heads);
        let (q, k, v) = (heads(&self.q_proj), heads(&self.k_proj), heads(&self.v_proj));
        let out = if self.causal { causal_attention(&q, &k, &v) } else { attention(&q, &k, &v, None) };
        self.out_proj.forward(&join_heads(&out))
    }
}

/// Attention and feed-forward, each after a norm.
#[derive(Debug)]
pub struct Layer {
    self_attn: Attention,
    layer_norm1: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    layer_norm2: LayerNorm,
    act: Activation,
}

impl Layer {
    pub fn new(weights: &Weights, sizes: &Sizes) -> Result<Self> {
        let (size, inner) = (sizes.hidden, sizes.intermediate);
        Ok(Self {
            self_attn: Attention::new(&weights.at("self_attn"), sizes)?,
            layer_norm1: LayerNorm::new(&weights.at("layer_norm1"), size, sizes.eps)?,
            fc1: Linear::new(&weights.at("mlp.fc1"), size, inner)?,
            fc2: Linear::new(&weights.at("mlp.fc2"), inner, size)?,
            layer_norm2: LayerNorm::new(&weights.at("layer_norm2"), size, sizes.eps)?,
            act: sizes.act,
        })
    }

    /// [batch, tokens, hidden] → the same
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let x = x + self.self_attn.forward(&self.layer_norm1.forward(x));
        let inner = self.act.apply(&self.fc1.forward(&self.layer_norm2.forward(&x)));
        x + self.fc2.forward(&inner)
    }
}
