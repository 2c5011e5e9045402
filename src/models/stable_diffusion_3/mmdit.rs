//! The denoiser of Stable Diffusion 3: a transformer over image and text tokens together (MMDiT),
//! with the extras of Stable Diffusion 3.5 (normalised queries and keys, a second attention).
//!
//! Architecture: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/transformers/transformer_sd3.py>

use anyhow::Result;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::checkpoints::Weights;
use crate::error::usage;
use crate::nn::{Activation, Conv2d, LayerNorm, Linear, RmsNorm, attention, join_heads, split_heads};

/// Every norm of the transformer.
const EPS: f64 = 1e-6;
/// Width of the sinusoids that a time is written as.
const TIME_CHANNELS: i64 = 256;

/// `transformer/config.json`; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub sample_size: i64,
    pub patch_size: i64,
    pub in_channels: i64,
    pub num_layers: usize,
    pub attention_head_dim: i64,
    pub num_attention_heads: i64,
    pub joint_attention_dim: i64,
    pub caption_projection_dim: i64,
    pub pooled_projection_dim: i64,
    pub out_channels: Option<i64>,
    pub pos_embed_max_size: i64,
    pub dual_attention_layers: Vec<usize>,
    pub qk_norm: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: 4096,
            caption_projection_dim: 1152,
            pooled_projection_dim: 2048,
            out_channels: Some(16),
            pos_embed_max_size: 96,
            dual_attention_layers: Vec::new(),
            qk_norm: None,
        }
    }
}

impl Config {
    /// Width of a token.
    fn inner_dim(&self) -> i64 {
        self.num_attention_heads * self.attention_head_dim
    }

    fn check(&self) -> Result<()> {
        if self.patch_size < 1 || self.num_layers == 0 {
            return Err(usage(format!(
                "a transformer of {} layers over patches of {} cannot be",
                self.num_layers, self.patch_size
            )));
        }
        if self.caption_projection_dim != self.inner_dim() {
            return Err(usage(format!(
                "the transformer's caption_projection_dim {} is not num_attention_heads · attention_head_dim = {}",
                self.caption_projection_dim,
                self.inner_dim()
            )));
        }
        match self.qk_norm.as_deref() {
            None | Some("rms_norm") => Ok(()),
            Some(other) => {
                Err(usage(format!("the transformer's qk_norm {other:?} is not known here: rms_norm or null")))
            }
        }
    }
}

/// Shift and scale of a normed token: [batch, size] each.
fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
    x * (scale.unsqueeze(1) + 1.0) + shift.unsqueeze(1)
}

/// Two layers with an activation between.
#[derive(Debug)]
struct TwoLayers {
    first: Linear,
    second: Linear,
    act: Activation,
}

impl TwoLayers {
    fn new(weights: &Weights, names: [&str; 2], sizes: [i64; 3], act: Activation) -> Result<Self> {
        Ok(Self {
            first: Linear::new(&weights.at(names[0]), sizes[0], sizes[1])?,
            second: Linear::new(&weights.at(names[1]), sizes[1], sizes[2])?,
            act,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.second.forward(&self.act.apply(&self.first.forward(x)))
    }
}

/// A layer norm whose shift and scale, and the gates after it, come from time and text.
#[derive(Debug)]
struct AdaNorm {
    linear: Linear,
    norm: LayerNorm,
    parts: i64,
}

impl AdaNorm {
    /// `parts`: 2 = scale, shift; 6 = shift, scale, gate of the attention, then of the feed-forward;
    /// 9 = the same with a second attention.
    fn new(weights: &Weights, size: i64, parts: i64) -> Result<Self> {
        let linear = Linear::new(&weights.at("linear"), size, parts * size)?;
        Ok(Self { linear, norm: LayerNorm::plain(size, EPS), parts })
    }

    /// `temb`: SiLU of the conditioning, [batch, size].
    fn forward(&self, x: &Tensor, temb: &Tensor) -> (Tensor, Vec<Tensor>) {
        (self.norm.forward(x), self.linear.forward(temb).chunk(self.parts, -1))
    }
}

/// Queries, keys and values of one stream, each head by itself.
#[derive(Debug)]
struct Projections {
    q: Linear,
    k: Linear,
    v: Linear,
    norm_q: Option<RmsNorm>,
    norm_k: Option<RmsNorm>,
    heads: i64,
}

impl Projections {
    /// `names`: of query, key, value, norm of query, norm of key.
    fn new(weights: &Weights, names: [&str; 5], config: &Config) -> Result<Self> {
        let size = config.inner_dim();
        let linear = |name: &str| Linear::new(&weights.at(name), size, size);
        let norm = |name: &str| RmsNorm::new(&weights.at(name), config.attention_head_dim, EPS);
        let normed = config.qk_norm.is_some();
        Ok(Self {
            q: linear(names[0])?,
            k: linear(names[1])?,
            v: linear(names[2])?,
            norm_q: normed.then(|| norm(names[3])).transpose()?,
            norm_k: normed.then(|| norm(names[4])).transpose()?,
            heads: config.num_attention_heads,
        })
    }

    /// [batch, tokens, size] → three of [batch, heads, tokens, head_dim]
    fn forward(&self, x: &Tensor) -> [Tensor; 3] {
        let heads = |linear: &Linear, norm: &Option<RmsNorm>| {
            let x = split_heads(&linear.forward(x), self.heads);
            norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(&x))
        };
        [heads(&self.q, &self.norm_q), heads(&self.k, &self.norm_k), heads(&self.v, &None)]
    }
}

const OWN: [&str; 5] = ["to_q", "to_k", "to_v", "norm_q", "norm_k"];
const ADDED: [&str; 5] = ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"];

/// Attention of image tokens and text tokens over both.
#[derive(Debug)]
struct JointAttention {
    image: Projections,
    text: Projections,
    to_out: Linear,
    /// None where the text is not read any more.
    to_add_out: Option<Linear>,
}

impl JointAttention {
    fn new(weights: &Weights, config: &Config, last: bool) -> Result<Self> {
        let size = config.inner_dim();
        let add_out = || Linear::new(&weights.at("to_add_out"), size, size);
        Ok(Self {
            image: Projections::new(weights, OWN, config)?,
            text: Projections::new(weights, ADDED, config)?,
            to_out: Linear::new(&weights.at("to_out.0"), size, size)?,
            to_add_out: (!last).then(add_out).transpose()?,
        })
    }

    fn forward(&self, image: &Tensor, text: &Tensor) -> (Tensor, Option<Tensor>) {
        let (own, added) = (self.image.forward(image), self.text.forward(text));
        let both = |i: usize| Tensor::cat(&[&own[i], &added[i]], 2);
        let out = join_heads(&attention(&both(0), &both(1), &both(2), None));
        let (image_tokens, text_tokens) = (image.size()[1], text.size()[1]);
        let image = self.to_out.forward(&out.narrow(1, 0, image_tokens));
        let text = self.to_add_out.as_ref().map(|linear| linear.forward(&out.narrow(1, image_tokens, text_tokens)));
        (image, text)
    }
}

/// Attention of image tokens over themselves.
#[derive(Debug)]
struct ImageAttention {
    image: Projections,
    to_out: Linear,
}

impl ImageAttention {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let size = config.inner_dim();
        Ok(Self {
            image: Projections::new(weights, OWN, config)?,
            to_out: Linear::new(&weights.at("to_out.0"), size, size)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let [q, k, v] = self.image.forward(x);
        self.to_out.forward(&join_heads(&attention(&q, &k, &v, None)))
    }
}

#[derive(Debug)]
struct FeedForward {
    norm: LayerNorm,
    layers: TwoLayers,
}

impl FeedForward {
    fn new(weights: &Weights, size: i64) -> Result<Self> {
        let sizes = [size, 4 * size, size];
        let layers = TwoLayers::new(weights, ["net.0.proj", "net.2"], sizes, Activation::GeluPytorchTanh)?;
        Ok(Self { norm: LayerNorm::plain(size, EPS), layers })
    }

    fn forward(&self, x: &Tensor, shift: &Tensor, scale: &Tensor, gate: &Tensor) -> Tensor {
        let inner = self.layers.forward(&modulate(&self.norm.forward(x), shift, scale));
        x + gate.unsqueeze(1) * inner
    }
}

#[derive(Debug)]
struct Block {
    norm1: AdaNorm,
    norm1_context: AdaNorm,
    attn: JointAttention,
    attn2: Option<ImageAttention>,
    ff: FeedForward,
    /// None in the last block, after which the text is not read any more.
    ff_context: Option<FeedForward>,
}

impl Block {
    fn new(weights: &Weights, index: usize, config: &Config) -> Result<Self> {
        let size = config.inner_dim();
        let (last, dual) = (index + 1 == config.num_layers, config.dual_attention_layers.contains(&index));
        Ok(Self {
            norm1: AdaNorm::new(&weights.at("norm1"), size, if dual { 9 } else { 6 })?,
            norm1_context: AdaNorm::new(&weights.at("norm1_context"), size, if last { 2 } else { 6 })?,
            attn: JointAttention::new(&weights.at("attn"), config, last)?,
            attn2: dual.then(|| ImageAttention::new(&weights.at("attn2"), config)).transpose()?,
            ff: FeedForward::new(&weights.at("ff"), size)?,
            ff_context: (!last).then(|| FeedForward::new(&weights.at("ff_context"), size)).transpose()?,
        })
    }

    /// Image tokens and text tokens, one block on.
    fn forward(&self, image: &Tensor, text: &Tensor, temb: &Tensor) -> (Tensor, Tensor) {
        let (normed_image, of_image) = self.norm1.forward(image, temb);
        let (normed_text, of_text) = self.norm1_context.forward(text, temb);
        let text_in = match &self.ff_context {
            Some(_) => modulate(&normed_text, &of_text[0], &of_text[1]),
            None => modulate(&normed_text, &of_text[1], &of_text[0]),
        };
        let (image_out, text_out) = self.attn.forward(&modulate(&normed_image, &of_image[0], &of_image[1]), &text_in);
        let mut image = image + of_image[2].unsqueeze(1) * image_out;
        if let Some(attn2) = &self.attn2 {
            let out = attn2.forward(&modulate(&normed_image, &of_image[6], &of_image[7]));
            image += of_image[8].unsqueeze(1) * out;
        }
        let image = self.ff.forward(&image, &of_image[3], &of_image[4], &of_image[5]);
        let text = match (&self.ff_context, text_out) {
            (Some(ff), Some(out)) => {
                let text = text + of_text[2].unsqueeze(1) * out;
                ff.forward(&text, &of_text[3], &of_text[4], &of_text[5])
            }
            _ => text.shallow_clone(),
        };
        (image, text)
    }
}

/// What the denoiser reads besides the latents; the same for all steps but for the time.
#[derive(Debug)]
pub struct Conditioning {
    /// The text, as wide as the image tokens: [batch, tokens, size].
    context: Tensor,
    /// SiLU of time and pooled text together, one for each step: [batch, size].
    temb: Vec<Tensor>,
}

/// The transformer.
#[derive(Debug)]
pub struct Mmdit {
    /// Positions of a square of `pos_embed_max_size`², of which a picture takes the middle:
    /// [1, side, side, size].
    pos_embed: Tensor,
    proj: Conv2d,
    timestep_embedder: TwoLayers,
    text_embedder: TwoLayers,
    context_embedder: Linear,
    transformer_blocks: Vec<Block>,
    norm_out: AdaNorm,
    proj_out: Linear,
    config: Config,
    kind: Kind,
}

impl Mmdit {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        config.check()?;
        let (size, patch, side) = (config.inner_dim(), config.patch_size, config.pos_embed_max_size);
        let pos_embed = weights.at("pos_embed").get("pos_embed", &[1, side * side, size])?;
        let time_text = weights.at("time_text_embed");
        let embedder = |name: &str, input: i64| {
            TwoLayers::new(&time_text.at(name), ["linear_1", "linear_2"], [input, size, size], Activation::Silu)
        };
        let block = |i| Block::new(&weights.at("transformer_blocks").at(i), i, config);
        let out = patch * patch * config.out_channels.unwrap_or(config.in_channels);
        Ok(Self {
            pos_embed: pos_embed.view([1, side, side, size]),
            proj: Conv2d::new(&weights.at("pos_embed.proj"), config.in_channels, size, patch, patch, 0)?,
            timestep_embedder: embedder("timestep_embedder", TIME_CHANNELS)?,
            text_embedder: embedder("text_embedder", config.pooled_projection_dim)?,
            context_embedder: Linear::new(&weights.at("context_embedder"), config.joint_attention_dim, size)?,
            transformer_blocks: (0..config.num_layers).map(block).collect::<Result<_>>()?,
            norm_out: AdaNorm::new(&weights.at("norm_out"), size, 2)?,
            proj_out: Linear::new(&weights.at("proj_out"), size, out)?,
            config: config.clone(),
            kind: weights.kind(),
        })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `prompt`: [batch, tokens, joint_attention_dim]; `pooled`: [batch, pooled_projection_dim];
    /// `timesteps`: all of them, in the order of the steps. What does not change from step to step is
    /// computed here, once.
    pub fn condition(&self, prompt: &Tensor, pooled: &Tensor, timesteps: &[f32]) -> Conditioning {
        let steps = Tensor::from_slice(timesteps).to_device(prompt.device());
        let times = self.timestep_embedder.forward(&sinusoids(&steps).to_kind(self.kind)); // [steps, size]
        let text = self.text_embedder.forward(&pooled.to_kind(self.kind)); // [batch, size]
        let temb = (times.unsqueeze(1) + text.unsqueeze(0)).silu(); // [steps, batch, size]
        Conditioning { context: self.context_embedder.forward(&prompt.to_kind(self.kind)), temb: temb.unbind(0) }
    }

    /// The velocity at this step: latents [batch, in_channels, height, width] → the same with
    /// out_channels.
    pub fn forward(&self, latents: &Tensor, conditioning: &Conditioning, step: usize) -> Tensor {
        let (patch, size) = (self.config.patch_size, latents.size());
        let (rows, columns) = (size[2] / patch, size[3] / patch);
        let temb = &conditioning.temb[step];
        let patches = self.proj.forward(latents).flatten(2, 3).transpose(1, 2); // [batch, tokens, size]
        let mut image = (patches + self.positions(rows, columns)).contiguous();
        let mut text = conditioning.context.shallow_clone();
        for block in &self.transformer_blocks {
            (image, text) = block.forward(&image, &text, temb);
        }
        let (normed, parts) = self.norm_out.forward(&image, temb);
        let out = self.proj_out.forward(&modulate(&normed, &parts[1], &parts[0]));
        // [batch, rows · columns, patch · patch · channels] → [batch, channels, height, width]
        out.view([size[0], rows, columns, patch, patch, -1]).permute([0, 5, 1, 3, 2, 4]).reshape([
            size[0],
            -1,
            rows * patch,
            columns * patch,
        ])
    }

    /// The middle of the square of positions: [1, rows · columns, size].
    fn positions(&self, rows: i64, columns: i64) -> Tensor {
        let side = self.config.pos_embed_max_size;
        let crop = self.pos_embed.narrow(1, (side - rows) / 2, rows).narrow(2, (side - columns) / 2, columns);
        crop.flatten(1, 2)
    }
}

/// Times as sinusoids, cosines first, in float32: [steps] → [steps, 256].
fn sinusoids(times: &Tensor) -> Tensor {
    let half = TIME_CHANNELS / 2;
    let exponent = Tensor::arange(half, (Kind::Float, times.device())) * -(10000f64.ln()) / half as f64;
    let angles = times.to_kind(Kind::Float).unsqueeze(1) * exponent.exp().unsqueeze(0);
    Tensor::cat(&[angles.cos(), angles.sin()], 1)
}
