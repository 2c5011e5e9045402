//! The caption decoder: post-norm BERT layers, each with cross attention to the picture.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::config::{Config, TextConfig};
use crate::checkpoints::Weights;
use crate::nn::{Activation, Embedding, LayerNorm, Linear};

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

/// Self or cross attention with its output layer.
#[derive(Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    layer_norm: LayerNorm,
    heads: i64,
}

impl Attention {
    /// `source` is the width of what keys and values are made from.
    fn new(weights: &Weights, config: &TextConfig, source: i64) -> Result<Self> {
        let size = config.hidden_size;
        Ok(Self {
            query: Linear::new(&weights.at("self.query"), size, size)?,
            key: Linear::new(&weights.at("self.key"), source, size)?,
            value: Linear::new(&weights.at("self.value"), source, size)?,
            dense: Linear::new(&weights.at("output.dense"), size, size)?,
            layer_norm: LayerNorm::new(&weights.at("output.LayerNorm"), size, config.layer_norm_eps)?,
            heads: config.num_attention_heads,
        })
    }

    /// [batch, tokens, hidden] → [batch, heads, tokens, head_dim]
    fn split_heads(&self, x: &Tensor) -> Tensor {
        let (batch, tokens, size) = x.size3().expect("[batch, tokens, hidden]");
        x.view([batch, tokens, self.heads, size / self.heads]).transpose(1, 2)
    }

    fn keys_and_values(&self, source: &Tensor) -> KeyValue {
        KeyValue {
            key: self.split_heads(&self.key.forward(source)),
            value: self.split_heads(&self.value.forward(source)),
        }
    }

    fn forward(&self, x: &Tensor, memory: &KeyValue, causal: bool) -> Tensor {
        let q = self.split_heads(&self.query.forward(x));
        let mixed = Tensor::scaled_dot_product_attention(
            &q,
            &memory.key,
            &memory.value,
            None::<&Tensor>,
            0.0,
            causal,
            None,
            false,
        );
        let mixed = mixed.transpose(1, 2).reshape(x.size());
        self.layer_norm.forward(&(self.dense.forward(&mixed) + x))
    }
}

#[derive(Debug)]
struct Layer {
    attention: Attention,
    crossattention: Attention,
    intermediate: Linear,
    activation: Activation,
    output: Linear,
    output_norm: LayerNorm,
}

impl Layer {
    fn new(weights: &Weights, config: &TextConfig, vision_size: i64) -> Result<Self> {
        let (size, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            attention: Attention::new(&weights.at("attention"), config, size)?,
            crossattention: Attention::new(&weights.at("crossattention"), config, vision_size)?,
            intermediate: Linear::new(&weights.at("intermediate.dense"), size, inner)?,
            activation: config.hidden_act,
            output: Linear::new(&weights.at("output.dense"), inner, size)?,
            output_norm: LayerNorm::new(&weights.at("output.LayerNorm"), size, config.layer_norm_eps)?,
        })
    }

    /// `own` grows by the tokens of `x`.
    fn forward(&self, x: &Tensor, own: &mut KeyValue, cross: &KeyValue) -> Tensor {
        let new = self.attention.keys_and_values(x);
        own.key = Tensor::cat(&[&own.key, &new.key], 2);
        own.value = Tensor::cat(&[&own.value, &new.value], 2);
        // Several tokens come only at the start, when nothing is remembered yet; one token may see all.
        let x = self.attention.forward(x, own, x.size()[1] > 1);
        let x = self.crossattention.forward(&x, cross, false);
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
            dense: Linear::new(&weights.at("transform.dense"), size, size)?,
            activation: config.hidden_act,
            layer_norm: LayerNorm::new(&weights.at("transform.LayerNorm"), size, config.layer_norm_eps)?,
            decoder: Linear::from_tensors(matrix, Some(bias)),
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
