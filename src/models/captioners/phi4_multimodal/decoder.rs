//! The language model Phi-4-mini: RMS norms, one matrix each for q, k, v and for gate and up, grouped
//! key and value heads, partial rotary embedding with `longrope`. Source: `Phi4MultimodalModel` in
//! transformers' `modeling_phi4_multimodal.py`.

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::config::{DecoderConfig, RopeConfig};
use crate::checkpoints::Weights;
use crate::nn::fused::{self, SKINNY_ROWS, Sight};
use crate::nn::{
    Activation, Embedding, KvCache, Linear, Lora, RmsNorm, RotaryTable, Rotation, Slot, StepView, Stretch, attention,
    causal_attention, join_heads, merged_linear, repeat_heads, split_heads, with_long_attention,
};

pub(super) struct Attention {
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

    /// Queries, keys and values [rows, heads, tokens, head_dim] of the joint projection.
    fn split(&self, joint: &Tensor) -> [Tensor; 3] {
        let heads = split_heads(joint, self.heads + 2 * self.kv_heads);
        let part = |first, count| heads.narrow(1, first, count);
        let (query, key) = (self.heads, self.kv_heads);
        [part(0, query), part(query, key), part(query + key, key)]
    }

    /// The same, turned.
    fn parts(&self, joint: &Tensor, rotation: &Rotation) -> [Tensor; 3] {
        let [q, k, v] = self.split(joint);
        [rotation.apply(&q), rotation.apply(&k), v]
    }

    /// Prompts from their first token on, x: [prompts, tokens, hidden]. Without a mask a token sees
    /// those up to its own place. `last_only`: nothing is wanted of the tokens before the last: [prompts, 1, hidden].
    fn read(
        &self,
        x: &Tensor,
        rotation: &Rotation,
        mask: Option<&Tensor>,
        (cache, stretch): (&KvCache, Option<Stretch>),
        last_only: bool,
    ) -> Tensor {
        let joint = self.qkv_proj.forward(x);
        let [q, k, v] = match fused::apply_rope(&joint, self.heads, rotation, cache, stretch) {
            Some(()) => self.split(&joint),
            None => {
                let [q, k, v] = self.parts(&joint, rotation);
                match stretch {
                    Some(stretch) => cache.fill_stretch(stretch, &k, &v),
                    None => cache.fill(&k, &v),
                }
                [q, k, v]
            }
        };
        if last_only {
            let last = q.size()[2] - 1;
            let mask = mask.map(|mask| mask.narrow(2, last, 1));
            return self.o_proj.forward(&self.mix_one(&q.narrow(2, last, 1), &k, &v, mask.as_ref()));
        }
        let mixed = match mask {
            None => with_long_attention(|| causal_attention(&q, &k, &v)),
            Some(mask) => {
                let groups = self.heads / self.kv_heads;
                attention(&q, &repeat_heads(&k, groups), &repeat_heads(&v, groups), Some(mask))
            }
        };
        self.o_proj.forward(&join_heads(&mixed))
    }

    /// One new token a row, x: [rows, 1, hidden].
    fn step(&self, x: &Tensor, rotation: &Rotation, view: &StepView, cache: &KvCache) -> Tensor {
        self.o_proj.forward(&self.mix(&self.qkv_proj.forward(x), rotation, view, cache))
    }

    /// The joint projection of one new token a row → what its heads see: [rows, 1, heads · head_dim].
    fn mix(&self, joint: &Tensor, rotation: &Rotation, view: &StepView, cache: &KvCache) -> Tensor {
        if let Slot::Device(slot) = view.slot {
            let sight = Sight { slot, padding: view.padding, window: view.window };
            if let Some(mixed) = fused::decode_attention(joint, self.heads, rotation, cache, &sight) {
                return mixed;
            }
        }
        let [q, k, v] = self.parts(joint, rotation);
        let (k, v) = view.append(cache, &k, &v);
        self.mix_one(&q, &k, &v, view.mask(joint.kind()))
    }

    /// Of one query a head [rows, heads, 1, head_dim], what it sees: [rows, 1, heads · head_dim].
    fn mix_one(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Tensor {
        // The queries that share a key head stand as so many tokens: nothing is repeated.
        let q = q.reshape([-1, self.kv_heads, self.heads / self.kv_heads, self.head_dim]);
        join_heads(&attention(&q, k, v, mask).reshape([-1, self.heads, 1, self.head_dim]))
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
        let inner = match self.activation {
            Activation::Silu => self.gate_up_proj.forward_gated(x),
            other => {
                let parts = self.gate_up_proj.forward(x).chunk(2, -1);
                &parts[1] * other.apply(&parts[0])
            }
        };
        self.down_proj.forward(&inner)
    }

    /// x + the block over the norm of x.
    fn forward_residual(&self, x: &Tensor, norm: &RmsNorm) -> Tensor {
        match self.activation {
            Activation::Silu => self.down_proj.forward_added(&self.gate_up_proj.forward_normed_gated(x, norm), x),
            _ => x + self.forward(&norm.forward(x)),
        }
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

    /// States are x, or x + y where `y` has not been added yet: the norm adds it on its way. Gives
    /// the same two, of as many of the last tokens as `attend` gives.
    fn forward(
        &self,
        x: Tensor,
        y: Option<Tensor>,
        attend: impl Fn(&Attention, &Tensor) -> Tensor,
    ) -> (Tensor, Tensor) {
        let (x, normed) = match y {
            Some(y) => self.input_layernorm.add_forward(&x, &y),
            None => (x.shallow_clone(), self.input_layernorm.forward(&x)),
        };
        let mixed = attend(&self.self_attn, &normed);
        let (x, normed) = self.post_attention_layernorm.add_forward(&last(&x, mixed.size()[1]), &mixed);
        (x, self.mlp.forward(&normed))
    }

    /// One new token a row, for few rows: norms and sums are left to the linear layers.
    fn step(&self, x: &Tensor, rotation: &Rotation, view: &StepView, cache: &KvCache) -> Tensor {
        let joint = self.self_attn.qkv_proj.forward_normed(x, &self.input_layernorm);
        let x = self.self_attn.o_proj.forward_added(&self.self_attn.mix(&joint, rotation, view, cache), x);
        self.mlp.forward_residual(&x, &self.post_attention_layernorm)
    }
}

/// So many of the last tokens of x [rows, tokens, hidden].
fn last(x: &Tensor, count: i64) -> Tensor {
    let tokens = x.size()[1];
    if count == tokens { x.shallow_clone() } else { x.narrow(1, tokens - count, count).contiguous() }
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

    /// Prompts [prompts, tokens, hidden] → logits after the last token [prompts, vocabulary]; their
    /// keys and values are left in the caches, in `stretch` of them or in the first places of all rows. `mask`: bool
    /// [prompts, 1, tokens, tokens].
    pub(super) fn read(
        &self,
        x: Tensor,
        rotation: &Rotation,
        mask: Option<&Tensor>,
        caches: &[KvCache],
        stretch: Option<Stretch>,
    ) -> Tensor {
        self.run(x, |layer, attention, x| {
            let is_top = layer + 1 == self.layers.len();
            attention.read(x, rotation, mask, (&caches[layer], stretch), is_top)
        })
    }

    /// One new token a row [rows, 1, hidden] → logits of the next [rows, vocabulary].
    pub(super) fn step(&self, x: Tensor, rotation: &Rotation, view: &StepView, caches: &[KvCache]) -> Tensor {
        // Weights, and what is in the cache, are from before this step.
        fused::with_dependent_launch(|| {
            if fused::fits(&x) && x.size()[0] <= SKINNY_ROWS {
                let layers = self.layers.iter().zip(caches);
                let x = layers.fold(x, |x, (layer, cache)| layer.step(&x, rotation, view, cache));
                return self.lm_head.forward_normed(&x, &self.norm).squeeze_dim(1);
            }
            self.run(x, |layer, attention, x| attention.step(x, rotation, view, &caches[layer]))
        })
    }

    /// [rows, tokens, hidden] → [rows, vocabulary], `attend` being what attention does in a layer.
    fn run(&self, x: Tensor, attend: impl Fn(usize, &Attention, &Tensor) -> Tensor) -> Tensor {
        let (mut x, mut y) = (x, None);
        for (i, layer) in self.layers.iter().enumerate() {
            let (sum, next) = layer.forward(x, y, |attention, normed| attend(i, attention, normed));
            (x, y) = (sum, Some(next));
        }
        let of_last = |x: &Tensor| last(x, 1).squeeze_dim(1);
        let normed = match y {
            Some(y) => self.norm.add_forward(&of_last(&x), &of_last(&y)).1,
            None => self.norm.forward(&of_last(&x)),
        };
        self.lm_head.forward(&normed)
    }

    /// Rotations of positions up to `positions`: list 0 for short texts, list 1 for long ones.
    pub(super) fn rotary_table(&self, positions: i64) -> Result<RotaryTable> {
        if positions > self.config.max_position_embeddings {
            bail!(
                "{positions} tokens are more than the {} this model takes (max_position_embeddings)",
                self.config.max_position_embeddings
            );
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
