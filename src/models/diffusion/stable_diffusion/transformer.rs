//! The attention blocks of the U-Net: picture over itself, picture over text, feed-forward.
//!
//! Architecture: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/transformers/transformer_2d.py>

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::unet_config::{Config, Size};
use crate::checkpoints::Weights;
use crate::nn::{
    Activation, GroupNorm, LayerNorm, Linear, attention, from_tokens, fused, join_heads, split_heads, to_tokens,
    with_long_attention,
};

/// Of the group norm before the tokens, whatever the configuration says of the other group norms.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;
/// Places of a picture that look at each other from which on cuDNN's attention is worth its plans on CUDA.
const LONG: i64 = 1024;

/// Tokens as one attention reads them: [batch, heads, tokens, head_dim] each.
#[derive(Debug)]
struct KeysAndValues {
    keys: Tensor,
    values: Tensor,
}

impl KeysAndValues {
    /// [batch, tokens, keys and then values of all heads]
    fn new(both: &Tensor, heads: i64) -> Self {
        let parts = both.chunk(2, -1);
        let split = |x: &Tensor| split_heads(&x.contiguous(), heads);
        Self { keys: split(&parts[0]), values: split(&parts[1]) }
    }

    fn attend(&self, queries: &Tensor) -> Tensor {
        attention(queries, &self.keys, &self.values, None)
    }

    fn copy(&self) -> Self {
        Self { keys: self.keys.copy(), values: self.values.copy() }
    }

    fn become_like(&mut self, other: &Self) {
        self.keys.copy_(&other.keys);
        self.values.copy_(&other.values);
    }
}

/// What one attention reads beside the latents.
#[derive(Debug)]
pub struct Text {
    text: KeysAndValues,
    /// Those of an IP-Adapter, which counts in the values.
    pictures: Option<KeysAndValues>,
}

impl Text {
    /// Adds pictures: [rows, tokens, keys and then values of all heads], a row for each or for as many pictures of the batch,
    /// one after another.
    pub fn add_pictures(&mut self, both: &Tensor, scale: f64) {
        let size = self.text.keys.size();
        let KeysAndValues { keys, values } = KeysAndValues::new(both, size[1]);
        let rows = |x: &Tensor| x.repeat_interleave_self_int(size[0] / x.size()[0], 0, None::<i64>);
        // Attention is linear in its values, so that a captured step serves every scale.
        self.pictures = Some(KeysAndValues { keys: rows(&keys), values: rows(&(values * scale)) });
    }

    /// Whether another text is of this size.
    pub fn is_like(&self, other: &Self) -> bool {
        let pictures = |text: &Self| text.pictures.as_ref().map(|pictures| pictures.keys.size());
        self.text.keys.size() == other.text.keys.size() && pictures(self) == pictures(other)
    }

    pub fn copy(&self) -> Self {
        Self { text: self.text.copy(), pictures: self.pictures.as_ref().map(KeysAndValues::copy) }
    }

    /// Becomes another text of the same size, in the same place in memory.
    pub fn become_like(&mut self, other: &Self) {
        self.text.become_like(&other.text);
        if let (Some(own), Some(other)) = (&mut self.pictures, &other.pictures) {
            own.become_like(other);
        }
    }
}

#[derive(Debug)]
struct SelfAttention {
    to_qkv: Linear,
    to_out: Linear,
    heads: i64,
}

impl SelfAttention {
    fn new(weights: &Weights, size: &Size) -> Result<Self> {
        let channels = size.channels;
        Ok(Self {
            to_qkv: Linear::joined(weights, &["to_q", "to_k", "to_v"], channels, channels, false)?,
            to_out: Linear::new(&weights.at("to_out.0"), channels, channels)?,
            heads: size.heads,
        })
    }

    /// [batch, tokens, channels] → the same, before `to_out`.
    fn attend(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        // [batch, tokens, 3 · channels] → three of [batch, heads, tokens, head_dim]
        let qkv = self.to_qkv.forward(x).view([size[0], size[1], 3, self.heads, -1]).permute([2, 0, 3, 1, 4]);
        let attend = || attention(&qkv.select(0, 0), &qkv.select(0, 1), &qkv.select(0, 2), None);
        join_heads(&if size[1] >= LONG { with_long_attention(attend) } else { attend() })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.to_out.forward(&self.attend(x))
    }
}

#[derive(Debug)]
struct CrossAttention {
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
    heads: i64,
}

impl CrossAttention {
    fn new(weights: &Weights, size: &Size) -> Result<Self> {
        let channels = size.channels;
        Ok(Self {
            to_q: Linear::without_bias(&weights.at("to_q"), channels, channels)?,
            to_kv: Linear::joined(weights, &["to_k", "to_v"], size.text, channels, false)?,
            to_out: Linear::new(&weights.at("to_out.0"), channels, channels)?,
            heads: size.heads,
        })
    }

    /// [batch, tokens, text] → its keys and values, which no step changes.
    fn read(&self, text: &Tensor) -> Text {
        Text { text: KeysAndValues::new(&self.to_kv.forward(text), self.heads), pictures: None }
    }

    /// [batch, tokens, channels] → the same, before `to_out`.
    fn attend(&self, x: &Tensor, text: &Text) -> Tensor {
        let queries = split_heads(&self.to_q.forward(x), self.heads);
        let read = text.text.attend(&queries);
        let seen = match &text.pictures {
            Some(pictures) => read + pictures.attend(&queries),
            None => read,
        };
        join_heads(&seen)
    }

    fn forward(&self, x: &Tensor, text: &Text) -> Tensor {
        self.to_out.forward(&self.attend(x, text))
    }
}

/// The half that is kept, times GELU of the other.
#[derive(Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    fn new(weights: &Weights, channels: i64) -> Result<Self> {
        Ok(Self {
            proj: Linear::new(&weights.at("net.0.proj"), channels, 8 * channels)?,
            out: Linear::new(&weights.at("net.2"), 4 * channels, channels)?,
        })
    }

    /// [batch, tokens, channels] → [batch, tokens, 4 · channels], before the last layer.
    fn geglu(&self, x: &Tensor) -> Tensor {
        let both = self.proj.forward(x);
        fused::gelu_product(&both).unwrap_or_else(|| {
            let halves = both.chunk(2, -1);
            &halves[0] * Activation::Gelu.apply(&halves[1])
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.out.forward(&self.geglu(x))
    }
}

#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    attn1: SelfAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl Layer {
    fn new(weights: &Weights, size: &Size) -> Result<Self> {
        let norm = |name: &str| LayerNorm::new(&weights.at(name), size.channels, LAYER_NORM_EPS);
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: SelfAttention::new(&weights.at("attn1"), size)?,
            norm2: norm("norm2")?,
            attn2: CrossAttention::new(&weights.at("attn2"), size)?,
            norm3: norm("norm3")?,
            ff: FeedForward::new(&weights.at("ff"), size.channels)?,
        })
    }

    fn forward(&self, x: &Tensor, text: &Text) -> Tensor {
        let (x, normed) = self.norm2.add_forward(x, &self.attn1.forward(&self.norm1.forward(x)));
        let (x, normed) = self.norm3.add_forward(&x, &self.attn2.forward(&normed, text));
        x + self.ff.forward(&normed)
    }

    /// The same where the tokens stand, which have their biases early: `lowering` is that of [`EarlyBiases`].
    fn add_to(&self, tokens: &Tensor, text: &Text, [first, second, third]: &[Tensor; 3]) {
        let read = self.attn1.attend(&self.norm1.forward_sum(tokens, first));
        self.attn1.to_out.add_product_to(&read, tokens);
        let read = self.attn2.attend(&self.norm2.forward_sum(tokens, second), text);
        self.attn2.to_out.add_product_to(&read, tokens);
        let gated = self.ff.geglu(&self.norm3.forward_sum(tokens, third));
        self.ff.out.add_product_to(&gated, tokens);
    }
}

/// For products that add to the tokens as they are written, which saves the sums' way through memory. Such a product has no
/// bias; so the tokens have the biases of all layers from the start, and each norm reads them without those still to come.
#[derive(Debug)]
struct EarlyBiases {
    /// The layer before all others, with the sum of the biases in its own.
    proj_in: Linear,
    /// For the three norms of each layer the biases still to come, negated: `[channels]` each.
    lowering: Vec<[Tensor; 3]>,
}

impl EarlyBiases {
    fn new(proj_in: &Linear, layers: &[Layer], device: Device, channels: i64) -> Self {
        let mut to_come = Tensor::zeros([channels], (Kind::Float, device));
        let mut with = |out: &Linear| {
            if let Some(bias) = out.bias() {
                to_come = &to_come + bias;
            }
            (-&to_come).to_kind(proj_in.kind())
        };
        // The last one comes to it first.
        let of_layer = |layer: &Layer| {
            let [third, second, first] = [&layer.ff.out, &layer.attn2.to_out, &layer.attn1.to_out].map(&mut with);
            [first, second, third]
        };
        let mut lowering: Vec<[Tensor; 3]> = layers.iter().rev().map(of_layer).collect();
        lowering.reverse();
        Self { proj_in: proj_in.with_raised_bias(&to_come), lowering }
    }
}

/// All places of a picture as tokens, through some layers, and back.
#[derive(Debug)]
pub struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<Layer>,
    proj_out: Linear,
    early: EarlyBiases,
}

impl Transformer {
    pub fn new(weights: &Weights, size: &Size, config: &Config) -> Result<Self> {
        let channels = size.channels;
        // A convolution of one place is a linear layer; only the shape in the file differs.
        let projection = |name: &str| -> Result<Linear> {
            let at = weights.at(name);
            let shape: &[i64] =
                if config.use_linear_projection { &[channels, channels] } else { &[channels, channels, 1, 1] };
            let weight = at.get("weight", shape)?.view([channels, channels]);
            Ok(Linear::from_tensors(weight, Some(at.get("bias", &[channels])?)))
        };
        let proj_in = projection("proj_in")?;
        let layer = |i| Layer::new(&weights.at("transformer_blocks").at(i), size);
        let transformer_blocks = (0..size.depth).map(layer).collect::<Result<Vec<Layer>>>()?;
        Ok(Self {
            norm: GroupNorm::new(&weights.at("norm"), config.norm_num_groups, channels, GROUP_NORM_EPS)?,
            early: EarlyBiases::new(&proj_in, &transformer_blocks, weights.device(), channels),
            proj_in,
            transformer_blocks,
            proj_out: projection("proj_out")?,
        })
    }

    /// The text as each layer reads it.
    pub fn read(&self, text: &Tensor) -> Vec<Text> {
        self.transformer_blocks.iter().map(|layer| layer.attn2.read(text)).collect()
    }

    /// [batch, channels, height, width] → the same; `text` from [`Self::read`].
    pub fn forward(&self, x: &Tensor, text: &[Text]) -> Tensor {
        let normed = to_tokens(&self.norm.forward(x));
        let tokens = if fused::fits(x) { self.tokens_in_place(&normed, text) } else { self.tokens(&normed, text) };
        from_tokens(&self.proj_out.forward(&tokens), &x.size()) + x
    }

    /// [batch, places, channels] → what comes out of the layers, of the same size.
    fn tokens(&self, normed: &Tensor, text: &[Text]) -> Tensor {
        let layers = self.transformer_blocks.iter().zip(text);
        layers.fold(self.proj_in.forward(normed), |tokens, (layer, text)| layer.forward(&tokens, text))
    }

    /// The same by products that add to the tokens where they stand.
    fn tokens_in_place(&self, normed: &Tensor, text: &[Text]) -> Tensor {
        let tokens = self.early.proj_in.forward(normed);
        let layers = self.transformer_blocks.iter().zip(text).zip(&self.early.lowering);
        layers.for_each(|((layer, text), lowering)| layer.add_to(&tokens, text, lowering));
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Biases that are added before their products do not change what comes out.
    #[test]
    fn tokens_in_place_are_those_of_the_plain_way() {
        let _guard = tch::no_grad_guard();
        let size =
            Size { channels: 32, layers: 1, heads: 4, text: 24, depth: 2, down_attention: true, up_attention: true };
        let weights = Weights::random(Device::Cpu, Kind::Float);
        let config = Config { norm_num_groups: 8, ..Config::default() };
        let mut transformer = Transformer::new(&weights, &size, &config).unwrap();
        let normal = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        // Random biases may be nothing.
        for layer in &mut transformer.transformer_blocks {
            for out in [&mut layer.ff.out, &mut layer.attn2.to_out, &mut layer.attn1.to_out] {
                *out = out.with_raised_bias(&normal(&[32]));
            }
        }
        transformer.early = EarlyBiases::new(&transformer.proj_in, &transformer.transformer_blocks, Device::Cpu, 32);
        let (normed, text) = (normal(&[2, 35, 32]), transformer.read(&normal(&[2, 7, 24])));
        let (plain, own) = (transformer.tokens(&normed, &text), transformer.tokens_in_place(&normed, &text));
        assert!((&plain - own).abs().max().double_value(&[]) < 1e-4);
        let lowered = transformer.proj_in.forward(&normed);
        assert!((plain - lowered).abs().max().double_value(&[]) > 0.5, "the biases count");
    }
}
