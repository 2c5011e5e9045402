//! The caption decoder: post-norm BERT layers, each with cross attention to the picture.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::config::{Config, TextConfig};
use crate::checkpoints::Weights;
use crate::nn::{
    Activation, Embedding, KvCache, LayerNorm, Linear, Slot, StepView, attention, causal_attention, fused, join_heads,
    split_heads,
};

/// Keys and values of a batch of pictures in one layer, computed once: [pictures, heads, tokens, head_dim] each.
#[derive(Debug)]
pub struct CrossAttentionCache {
    key: Tensor,
    value: Tensor,
    /// On CUDA, what both are views of, as the layer that makes them gives it: [pictures, tokens, 2 · hidden].
    joint: Option<Tensor>,
}

impl CrossAttentionCache {
    /// Takes the memory.
    fn new(shape: [i64; 3], heads: i64, kind: Kind, device: Device) -> Self {
        let [pictures, tokens, hidden] = shape;
        if device.is_cuda() {
            let joint = Tensor::zeros([pictures, tokens, 2 * hidden], (kind, device));
            let parts = split_heads(&joint, 2 * heads);
            let part = |n: i64| parts.narrow(1, n * heads, heads);
            return Self { key: part(0), value: part(1), joint: Some(joint) };
        }
        // Read again for every token: one stretch of memory for each head.
        let new = || Tensor::empty([pictures, heads, tokens, hidden / heads], (kind, device));
        Self { key: new(), value: new(), joint: None }
    }

    /// Picture `i` becomes what picture `pictures[i]` was (int64), in new memory; there may be fewer or more.
    pub fn reorder(&mut self, pictures: &Tensor) {
        self.key = self.key.index_select(0, pictures);
        self.value = self.value.index_select(0, pictures);
        self.joint = None;
    }
}

#[derive(Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    layer_norm: LayerNorm,
}

impl Embeddings {
    fn new(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let size = config.hidden_size;
        Ok(Self {
            word_embeddings: Embedding::new(&weights.at("word_embeddings"), config.vocab_size, size)?,
            position_embeddings: Embedding::new(
                &weights.at("position_embeddings"),
                config.max_position_embeddings,
                size,
            )?,
            layer_norm: LayerNorm::new(&weights.at("LayerNorm"), size, config.layer_norm_eps)?,
        })
    }

    /// [batch, tokens] at `positions` [tokens] → [batch, tokens, hidden]
    fn forward(&self, ids: &Tensor, positions: &Tensor) -> Tensor {
        self.layer_norm.forward_sum(&self.word_embeddings.forward(ids), &self.position_embeddings.forward(positions))
    }
}

/// What follows the mixing of values: an output layer, the residual, the norm.
#[derive(Debug)]
struct AttentionOutput {
    dense: Linear,
    layer_norm: LayerNorm,
}

impl AttentionOutput {
    fn new(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let size = config.hidden_size;
        Ok(Self {
            dense: Linear::new(&weights.at("dense"), size, size)?.packed(),
            layer_norm: LayerNorm::new(&weights.at("LayerNorm"), size, config.layer_norm_eps)?,
        })
    }

    /// `mixed`, `x`: [batch, tokens, hidden]
    fn forward(&self, mixed: &Tensor, x: &Tensor) -> Tensor {
        self.layer_norm.forward_sum(&self.dense.forward(mixed), x)
    }
}

/// Among the tokens of the text.
#[derive(Debug)]
struct SelfAttention {
    /// Query, key and value side by side.
    qkv: Linear,
    output: AttentionOutput,
    heads: i64,
}

impl SelfAttention {
    fn new(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let size = config.hidden_size;
        let part = |name| Linear::new(&weights.at("self").at(name), size, size);
        Ok(Self {
            qkv: Linear::side_by_side(&[part("query")?, part("key")?, part("value")?]).packed(),
            output: AttentionOutput::new(&weights.at("output"), config)?,
            heads: config.num_attention_heads,
        })
    }

    /// Query, key and value of each head: [batch, heads, tokens, head_dim].
    fn parts(&self, joint: &Tensor) -> [Tensor; 3] {
        let qkv = split_heads(joint, 3 * self.heads);
        [0, 1, 2].map(|n| qkv.narrow(1, n * self.heads, self.heads))
    }

    /// Texts from their first token on, each for as many rows of the cache as there are.
    fn read(&self, x: &Tensor, cache: &KvCache) -> Tensor {
        let [q, k, v] = self.parts(&self.qkv.forward(x));
        cache.fill(&k, &v);
        self.output.forward(&join_heads(&causal_attention(&q, &k.contiguous(), &v.contiguous())), x)
    }

    /// One new token a row, x: [rows, 1, hidden].
    fn step(&self, x: &Tensor, view: &StepView, cache: &KvCache) -> Tensor {
        let joint = self.qkv.forward(x);
        if let Slot::Device(slot) = view.slot
            && let Some(mixed) = fused::attend_to_text(&joint, cache, slot)
        {
            return self.output.forward(&mixed, x);
        }
        let [q, k, v] = self.parts(&joint);
        let (k, v) = view.append(cache, &k, &v);
        self.output.forward(&join_heads(&attention(&q, &k, &v, view.mask(x.kind()))), x)
    }
}

/// From the text to the picture.
#[derive(Debug)]
struct CrossAttention {
    query: Linear,
    /// Key and value side by side.
    kv: Linear,
    output: AttentionOutput,
    heads: i64,
}

impl CrossAttention {
    /// `source` is the width of the picture's states.
    fn new(weights: &Weights, config: &TextConfig, source: i64) -> Result<Self> {
        let size = config.hidden_size;
        let part = |name, input| Linear::new(&weights.at("self").at(name), input, size);
        Ok(Self {
            query: part("query", size)?.packed(),
            kv: Linear::side_by_side(&[part("key", source)?, part("value", source)?]).packed(),
            output: AttentionOutput::new(&weights.at("output"), config)?,
            heads: config.num_attention_heads,
        })
    }

    /// `pictures`: [pictures, tokens, vision hidden]
    fn look(&self, pictures: &Tensor, memory: &CrossAttentionCache) {
        if let Some(joint) = &memory.joint {
            return self.kv.forward_into(pictures, joint);
        }
        let kv = split_heads(&self.kv.forward(pictures), 2 * self.heads);
        for (n, place) in [(0, &memory.key), (1, &memory.value)] {
            place.shallow_clone().copy_(&kv.narrow(1, n * self.heads, self.heads));
        }
    }

    /// `x`: [texts, tokens, hidden], each picture having as many texts, one after another, as there are.
    fn forward(&self, x: &Tensor, memory: &CrossAttentionCache) -> Tensor {
        let query = self.query.forward(x);
        if let Some(mixed) = fused::attend_to_all(&query, &memory.key, &memory.value) {
            return self.output.forward(&mixed, x);
        }
        // The texts of a picture stand as so many tokens: nothing is repeated.
        let (pictures, size) = (memory.key.size()[0], x.size());
        let q = split_heads(&query.view([pictures, -1, size[2]]), self.heads);
        let mixed = join_heads(&attention(&q, &memory.key, &memory.value, None));
        self.output.forward(&mixed.view(size.as_slice()), x)
    }
}

#[derive(Debug)]
struct Layer {
    attention: SelfAttention,
    crossattention: CrossAttention,
    intermediate: Linear,
    activation: Activation,
    output: Linear,
    output_norm: LayerNorm,
}

impl Layer {
    fn new(weights: &Weights, config: &TextConfig, vision_size: i64) -> Result<Self> {
        let (size, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            attention: SelfAttention::new(&weights.at("attention"), config)?,
            crossattention: CrossAttention::new(&weights.at("crossattention"), config, vision_size)?,
            intermediate: Linear::new(&weights.at("intermediate.dense"), size, inner)?.packed(),
            activation: config.hidden_act,
            output: Linear::new(&weights.at("output.dense"), inner, size)?.packed(),
            output_norm: LayerNorm::new(&weights.at("output.LayerNorm"), size, config.layer_norm_eps)?,
        })
    }

    /// `attend` is what self-attention does.
    fn forward(
        &self,
        x: &Tensor,
        attend: impl Fn(&SelfAttention, &Tensor) -> Tensor,
        cross: &CrossAttentionCache,
    ) -> Tensor {
        let x = attend(&self.attention, x);
        let x = self.crossattention.forward(&x, cross);
        let inner = self.intermediate.forward_activated(&x, self.activation);
        self.output_norm.forward_sum(&self.output.forward(&inner), &x)
    }
}

/// Hidden states → scores over the vocabulary.
#[derive(Debug)]
struct PredictionHead {
    dense: Linear,
    activation: Activation,
    layer_norm: LayerNorm,
    decoder: Linear,
}

impl PredictionHead {
    /// The output matrix is stored a second time in the public files, and then may differ from the
    /// word embeddings; where it is not stored the two are one.
    fn new(weights: &Weights, config: &TextConfig, words: &Embedding) -> Result<Self> {
        let (size, vocab) = (config.hidden_size, config.vocab_size);
        let matrix = weights.get_if_present("decoder.weight", &[vocab, size])?;
        let matrix = matrix.unwrap_or_else(|| words.weight().shallow_clone());
        // `bias` and `decoder.bias` are the same vector; old files hold only the first.
        let bias = weights.get_if_present("bias", &[vocab])?;
        let bias = match weights.get_if_present("decoder.bias", &[vocab])?.or(bias) {
            Some(bias) => bias,
            None => weights.get("bias", &[vocab])?,
        };
        Ok(Self {
            dense: Linear::new(&weights.at("transform.dense"), size, size)?.packed(),
            activation: config.hidden_act,
            layer_norm: LayerNorm::new(&weights.at("transform.LayerNorm"), size, config.layer_norm_eps)?,
            decoder: Linear::from_tensors(matrix, Some(bias)).packed(),
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.decoder.forward(&self.layer_norm.forward(&self.dense.forward_activated(x, self.activation)))
    }
}

/// Picture states and tokens → scores of the next token.
#[derive(Debug)]
pub struct TextDecoder {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    predictions: PredictionHead,
    config: TextConfig,
    pub device: Device,
    kind: Kind,
}

impl TextDecoder {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let (text, vision_size) = (&config.text_config, config.vision_config.hidden_size);
        let embeddings = Embeddings::new(&weights.at("bert.embeddings"), text)?;
        let layers = (0..text.num_hidden_layers)
            .map(|n| Layer::new(&weights.at("bert.encoder.layer").at(n), text, vision_size))
            .collect::<Result<_>>()?;
        let predictions = PredictionHead::new(&weights.at("cls.predictions"), text, &embeddings.word_embeddings)?;
        let (device, kind) = (weights.device(), weights.kind());
        Ok(Self { embeddings, layers, predictions, config: text.clone(), device, kind })
    }

    /// Longest text that it takes, in tokens.
    pub fn positions(&self) -> i64 {
        self.config.max_position_embeddings
    }

    /// Empty memories of texts, one a layer.
    pub fn caches(&self, rows: i64, capacity: i64) -> Vec<KvCache> {
        let TextConfig { hidden_size, num_attention_heads: heads, .. } = self.config;
        let new = |_: &Layer| KvCache::new(rows, heads, capacity, hidden_size / heads, self.kind, self.device);
        self.layers.iter().map(new).collect()
    }

    /// Empty memories of so many pictures of so many tokens, one a layer.
    pub fn cross_attention_caches(&self, pictures: i64, tokens: i64) -> Vec<CrossAttentionCache> {
        let shape = [pictures, tokens, self.config.hidden_size];
        let new = |_: &Layer| CrossAttentionCache::new(shape, self.config.num_attention_heads, self.kind, self.device);
        self.layers.iter().map(new).collect()
    }

    /// Reads the pictures ([pictures, tokens, vision hidden]).
    pub fn look(&self, pictures: &Tensor, memories: &[CrossAttentionCache]) {
        for (layer, memory) in self.layers.iter().zip(memories) {
            layer.crossattention.look(pictures, memory);
        }
    }

    /// Reads texts (int64 [texts, tokens]) from their first token on, each for as many rows of the caches as
    /// there are. Scores of the token after the last: [texts, vocab].
    pub fn read(&self, ids: &Tensor, caches: &[KvCache], memories: &[CrossAttentionCache]) -> Tensor {
        let positions = Tensor::arange(ids.size()[1], (Kind::Int64, self.device));
        self.run(ids, &positions, |layer, attention, x| attention.read(x, &caches[layer]), memories)
    }

    /// Appends one token to each row (int64 [rows, 1]). Scores of the next: [rows, vocab].
    pub fn step(
        &self,
        tokens: &Tensor,
        view: &StepView,
        caches: &[KvCache],
        memories: &[CrossAttentionCache],
    ) -> Tensor {
        let position = match view.slot {
            Slot::Host(place) => Tensor::from_slice(&[*place]),
            Slot::Device(place) => place.shallow_clone(),
        };
        let attend = |layer: usize, attention: &SelfAttention, x: &Tensor| attention.step(x, view, &caches[layer]);
        // Weights, pictures and what is in the caches are from before this step.
        fused::with_dependent_launch(|| self.run(tokens, &position, attend, memories))
    }

    fn run(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        attend: impl Fn(usize, &SelfAttention, &Tensor) -> Tensor,
        memories: &[CrossAttentionCache],
    ) -> Tensor {
        let mut x = self.embeddings.forward(ids, positions);
        for (i, (layer, memory)) in self.layers.iter().zip(memories).enumerate() {
            x = layer.forward(&x, |attention, x| attend(i, attention, x), memory);
        }
        self.predictions.forward(&x.select(1, -1))
    }
}
