//! The language model Phi-4-mini: RMS norms, one matrix each for q, k, v and for gate and up, grouped
//! key and value heads, partial rotary embedding with `longrope`. Source: `Phi4MultimodalModel` in
//! transformers' `modeling_phi4_multimodal.py`.

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::config::{DecoderConfig, RopeConfig};
use crate::checkpoints::Weights;
use crate::nn::{
    Activation, Embedding, KvCache, Linear, Lora, RmsNorm, RotaryTable, Rotation, attention, causal_attention,
    join_heads, merged_linear, repeat_heads, split_heads,
};

/// What the tokens of one pass see.
pub(super) enum View<'a> {
    /// The tokens themselves, from the first place of the cache on; None = up to their own place.
    Prompt(Option<&'a Tensor>),
    /// One token a row, written to the place `slot`: the first `length` places of the cache, of
    /// which the additive `mask` [rows, 1, 1, length] hides some.
    Step { slot: &'a Slot, length: i64, mask: Option<&'a Tensor> },
}

/// Where the next token goes: as the host knows it, or as the device does.
pub(super) enum Slot {
    Host(i64),
    Device(Tensor),
}

struct Attention {
    qkv_proj: Linear,
    o_proj: Linear,
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
}

impl Attention {
    fn new(weights: &Weights, config: &DecoderConfig, lora: Option<Lora>) -> Result<Self> {
        let DecoderConfig { hidden_size, head_dim, num_attention_heads: heads, num_key_value_heads: kv_heads, .. } =
            *config;
        let width = (heads + 2 * kv_heads) * head_dim;
        Ok(Self {
            qkv_proj: merged_linear(&weights.at("qkv_proj"), hidden_size, width, lora)?,
            o_proj: merged_linear(&weights.at("o_proj"), heads * head_dim, hidden_size, lora)?,
            heads,
            kv_heads,
            head_dim,
        })
    }

    /// x: [rows, tokens, hidden]
    fn forward(&self, x: &Tensor, rotation: &Rotation, view: &View, cache: &mut KvCache) -> Tensor {
        let groups = self.heads / self.kv_heads;
        let (query, key) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let parts = self.qkv_proj.forward(x).split_with_sizes([query, key, key], 2);
        let q = rotation.apply(&split_heads(&parts[0], self.heads)); // [rows, heads, tokens, head_dim]
        let k = rotation.apply(&split_heads(&parts[1], self.kv_heads));
        let v = split_heads(&parts[2], self.kv_heads);
        let mixed = match view {
            View::Prompt(mask) => {
                cache.write(0, &k, &v);
                let (k, v) = (repeat_heads(&k, groups), repeat_heads(&v, groups));
                match mask {
                    None => causal_attention(&q, &k, &v),
                    Some(mask) => attention(&q, &k, &v, Some(mask)),
                }
            }
            View::Step { slot, length, mask } => {
                match slot {
                    Slot::Host(place) => cache.write(*place, &k, &v),
                    Slot::Device(place) => cache.write_at(place, &k, &v),
                }
                let (k, v) = cache.filled(*length);
                // The queries that share a key head stand as so many tokens: nothing is repeated.
                let q = q.reshape([-1, self.kv_heads, groups, self.head_dim]);
                attention(&q, &k, &v, *mask).reshape([-1, self.heads, 1, self.head_dim])
            }
        };
        self.o_proj.forward(&join_heads(&mixed))
    }
}

struct Mlp {
    gate_up_proj: Linear,
    down_proj: Linear,
    activation: Activation,
}

impl Mlp {
    fn new(weights: &Weights, config: &DecoderConfig, lora: Option<Lora>) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            gate_up_proj: merged_linear(&weights.at("gate_up_proj"), hidden, 2 * inner, lora)?,
            down_proj: merged_linear(&weights.at("down_proj"), inner, hidden, lora)?,
            activation: config.hidden_act,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let gate_up = self.gate_up_proj.forward(x).chunk(2, -1);
        self.down_proj.forward(&(&gate_up[1] * self.activation.apply(&gate_up[0])))
    }
}

struct Layer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Layer {
    fn new(weights: &Weights, config: &DecoderConfig, lora: Option<Lora>) -> Result<Self> {
        let norm = |name| RmsNorm::new(&weights.at(name), config.hidden_size, config.rms_norm_eps);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::new(&weights.at("self_attn"), config, lora)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp::new(&weights.at("mlp"), config, lora)?,
        })
    }

    fn forward(&self, x: &Tensor, rotation: &Rotation, view: &View, cache: &mut KvCache) -> Tensor {
        let x = x + self.self_attn.forward(&self.input_layernorm.forward(x), rotation, view, cache);
        &x + self.mlp.forward(&self.post_attention_layernorm.forward(&x))
    }
}

/// The language model, with the output layer.
pub struct Decoder {
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    lm_head: Linear,
    pub(super) config: DecoderConfig,
    pub(super) device: Device,
    pub(super) kind: Kind,
}

impl Decoder {
    /// `weights` is the root of the checkpoint. An absent `lm_head.weight` means that the
    /// embeddings are it.
    pub fn new(weights: &Weights, config: &DecoderConfig, lora: Option<Lora>) -> Result<Self> {
        let model = weights.at("model");
        let (vocabulary, hidden) = (config.vocab_size, config.hidden_size);
        let embed_tokens = Embedding::new(&model.at("embed_tokens"), vocabulary, hidden)?;
        let lm_head = weights.get_if_present("lm_head.weight", &[vocabulary, hidden])?;
        let layers = model.at("layers");
        Ok(Self {
            lm_head: Linear::from_tensors(lm_head.unwrap_or_else(|| embed_tokens.weight().shallow_clone()), None),
            embed_tokens,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::new(&layers.at(i), config, lora))
                .collect::<Result<_>>()?,
            norm: RmsNorm::new(&model.at("norm"), hidden, config.rms_norm_eps)?,
            config: config.clone(),
            device: weights.device(),
            kind: weights.kind(),
        })
    }

    /// Token ids of any shape (int64, on the device) → [..., hidden]
    pub fn embed(&self, ids: &Tensor) -> Tensor {
        self.embed_tokens.forward(ids)
    }

    /// Empty caches, one a layer.
    pub(super) fn caches(&self, rows: i64, capacity: i64) -> Vec<KvCache> {
        let new = |_: &Layer| {
            let (heads, width) = (self.config.num_key_value_heads, self.config.head_dim);
            KvCache::new(rows, heads, capacity, width, self.kind, self.device)
        };
        self.layers.iter().map(new).collect()
    }

    /// Embedded tokens [rows, tokens, hidden] → logits after the last of them [rows, vocabulary].
    pub(super) fn forward(&self, x: Tensor, rotation: &Rotation, view: &View, caches: &mut [KvCache]) -> Tensor {
        let layers = self.layers.iter().zip(caches);
        let x = layers.fold(x, |x, (layer, cache)| layer.forward(&x, rotation, view, cache));
        let last = x.select(1, x.size()[1] - 1);
        self.lm_head.forward(&self.norm.forward(&last))
    }

    /// Rotations of positions up to `positions`: list 0 for short texts, list 1 for long ones.
    pub(super) fn rotary_table(&self, positions: i64) -> Result<RotaryTable> {
        if positions > self.config.max_position_embeddings {
            bail!("{positions} tokens are more than the {} this model takes", self.config.max_position_embeddings);
        }
        let rope = &self.config.rope;
        Ok(RotaryTable::new(&frequencies(rope), positions, rope.attention_factor, self.kind, self.device))
    }
}

/// [2, rotary_dim / 2] of float32: 1 / (factor · theta^(2i / rotary_dim)) with the short and the long factors.
fn frequencies(rope: &RopeConfig) -> Tensor {
    let exponents = Tensor::arange_start_step(0, rope.rotary_dim, 2, (Kind::Int64, Device::Cpu)).to_kind(Kind::Float)
        / rope.rotary_dim as f64;
    let powers = Tensor::pow_scalar(rope.theta, &exponents);
    let factors: Vec<f32> = rope.short_factor.iter().chain(&rope.long_factor).map(|factor| *factor as f32).collect();
    (Tensor::from_slice(&factors).view([2, -1]) * powers).reciprocal()
}
