//! The caption decoder: post-norm BERT layers, each with cross attention to the picture.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::config::{Config, TextConfig};
use crate::checkpoints::Weights;
use crate::nn::{Activation, Embedding, LayerNorm, Linear, attention, causal_attention, join_heads, split_heads};

/// Keys and values of one attention: [batch, heads, tokens, head_dim] each.
#[derive(Debug)]
struct KeyValue {
    key: Tensor,
    value: Tensor,
}

impl KeyValue {
    fn reorder(&mut self, rows: &Tensor) {
        self.key = self.key.index_select(0, rows);
        self.value = self.value.index_select(0, rows);
    }
}

/// What the decoder remembers of the tokens so far, and of the pictures.
#[derive(Debug)]
pub struct State {
    own: Vec<KeyValue>,
    /// Computed once per picture.
    cross: Vec<KeyValue>,
    length: i64,
}

impl State {
    /// Keeps these rows of the batch, in this order (int64 [rows]).
    pub fn reorder(&mut self, rows: &Tensor) {
        self.own.iter_mut().chain(&mut self.cross).for_each(|layer| layer.reorder(rows));
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

    /// [batch, tokens], the first of them at position `start` → [batch, tokens, hidden]
    fn forward(&self, ids: &Tensor, start: i64) -> Tensor {
        let positions = Tensor::arange_start(start, start + ids.size()[1], (Kind::Int64, ids.device()));
        let sum = self.word_embeddings.forward(ids) + self.position_embeddings.forward(&positions);
        self.layer_norm.forward(&sum)
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

    /// `mixed`: [batch, heads, tokens, head_dim]; `x`: [batch, tokens, hidden]
    fn forward(&self, mixed: &Tensor, x: &Tensor) -> Tensor {
        self.layer_norm.forward(&(self.dense.forward(&join_heads(mixed)) + x))
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

    /// `memory` grows by the tokens of `x`.
    fn forward(&self, x: &Tensor, memory: &mut KeyValue) -> Tensor {
        let qkv = split_heads(&self.qkv.forward(x), 3 * self.heads); // [batch, 3 · heads, tokens, head_dim]
        let part = |n: i64| qkv.narrow(1, n * self.heads, self.heads);
        memory.key = Tensor::cat(&[&memory.key, &part(1)], 2);
        memory.value = Tensor::cat(&[&memory.value, &part(2)], 2);
        // Several tokens come only at the start, when nothing is remembered yet; one token may see all.
        let attend = if x.size()[1] > 1 { causal_attention } else { see_all };
        self.output.forward(&attend(&part(0), &memory.key, &memory.value), x)
    }
}

fn see_all(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    attention(q, k, v, None)
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

    fn keys_and_values(&self, picture: &Tensor) -> KeyValue {
        let kv = split_heads(&self.kv.forward(picture), 2 * self.heads);
        // Read again for every token: one stretch of memory for each head.
        let part = |n: i64| kv.narrow(1, n * self.heads, self.heads).contiguous();
        KeyValue { key: part(0), value: part(1) }
    }

    fn forward(&self, x: &Tensor, memory: &KeyValue) -> Tensor {
        let q = split_heads(&self.query.forward(x), self.heads);
        self.output.forward(&see_all(&q, &memory.key, &memory.value), x)
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

    /// `own` grows by the tokens of `x`.
    fn forward(&self, x: &Tensor, own: &mut KeyValue, cross: &KeyValue) -> Tensor {
        let x = self.attention.forward(x, own);
        let x = self.crossattention.forward(&x, cross);
        let inner = self.activation.apply(&self.intermediate.forward(&x));
        self.output_norm.forward(&(self.output.forward(&inner) + x))
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
        self.decoder.forward(&self.layer_norm.forward(&self.activation.apply(&self.dense.forward(x))))
    }
}

/// Picture states and tokens → scores of the next token.
#[derive(Debug)]
pub struct TextDecoder {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    predictions: PredictionHead,
}

impl TextDecoder {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let (text, vision_size) = (&config.text_config, config.vision_config.hidden_size);
        let embeddings = Embeddings::new(&weights.at("bert.embeddings"), text)?;
        let layers = (0..text.num_hidden_layers)
            .map(|n| Layer::new(&weights.at("bert.encoder.layer").at(n), text, vision_size))
            .collect::<Result<_>>()?;
        let predictions = PredictionHead::new(&weights.at("cls.predictions"), text, &embeddings.word_embeddings)?;
        Ok(Self { embeddings, layers, predictions })
    }

    /// Reads the pictures ([batch, tokens, vision hidden]); no text yet.
    pub fn start(&self, pictures: &Tensor) -> State {
        let cross: Vec<KeyValue> =
            self.layers.iter().map(|layer| layer.crossattention.keys_and_values(pictures)).collect();
        let empty = |kv: &KeyValue| KeyValue { key: kv.key.narrow(2, 0, 0), value: kv.value.narrow(2, 0, 0) };
        State { own: cross.iter().map(empty).collect(), cross, length: 0 }
    }

    /// Appends tokens (int64 [batch, tokens]; several only at the start) and gives the scores of
    /// the token after the last: [batch, vocab].
    pub fn step(&self, ids: &Tensor, state: &mut State) -> Tensor {
        let mut x = self.embeddings.forward(ids, state.length);
        for ((layer, own), cross) in self.layers.iter().zip(&mut state.own).zip(&state.cross) {
            x = layer.forward(&x, own, cross);
        }
        state.length += ids.size()[1];
        self.predictions.forward(&x.select(1, -1))
    }
}
