//! The blocks of the denoiser: attention of image and text tokens together, then each by itself.

use anyhow::Result;
use tch::Tensor;

use super::config::Config;
use crate::checkpoints::Weights;
use crate::nn::fused::{self, Modulation};
use crate::nn::{
    Activation, AnyLinear, Float8Rows, LayerInput, LayerNorm, Linear, RmsNorm, attention, float8_attention,
};

/// Every norm of the transformer.
const EPS: f64 = 1e-6;

/// Two layers with an activation between.
#[derive(Debug)]
pub(super) struct TwoLayers {
    first: Linear,
    second: Linear,
    act: Activation,
}

impl TwoLayers {
    pub(super) fn new(weights: &Weights, names: [&str; 2], sizes: [i64; 3], act: Activation) -> Result<Self> {
        Ok(Self {
            first: Linear::new(&weights.at(names[0]), sizes[0], sizes[1])?,
            second: Linear::new(&weights.at(names[1]), sizes[1], sizes[2])?,
            act,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.second.forward(&self.first.forward_activated(x, self.act))
    }
}

/// The layers of a block that each token goes through by itself.
#[derive(Debug)]
struct FeedForward {
    first: AnyLinear,
    second: AnyLinear,
}

impl FeedForward {
    fn new(weights: &Weights, size: i64) -> Result<Self> {
        Ok(Self {
            first: AnyLinear::new(&weights.at("net.0.proj"), size, 4 * size)?,
            second: AnyLinear::new(&weights.at("net.2"), 4 * size, size)?,
        })
    }

    fn forward(&self, x: &LayerInput) -> Tensor {
        self.second.forward(&self.first.forward_gelu(x))
    }
}

/// The layer that makes shifts, scales and gates from time and text.
#[derive(Debug)]
pub(super) struct AdaNorm {
    linear: Linear,
    parts: i64,
}

impl AdaNorm {
    /// `parts`: 2 = scale, shift; 6 = shift, scale, gate of the attention, then of the feed-forward;
    /// 9 = the same with a second attention.
    pub(super) fn new(weights: &Weights, size: i64, parts: i64) -> Result<Self> {
        Ok(Self { linear: Linear::new(&weights.at("linear"), size, parts * size)?, parts })
    }

    /// `temb`: SiLU of the conditioning of all steps, [steps, batch, size] → the same, `parts` times as wide.
    pub(super) fn all_steps(&self, temb: &Tensor) -> Tensor {
        self.linear.forward(temb)
    }

    /// The next parts of what all layers made for one step, [batch, size] each.
    pub(super) fn take(&self, of_step: &mut Modulations) -> Vec<Tensor> {
        of_step.take(self.parts)
    }
}

/// Shifts, scales and gates of one step, in the order in which the blocks read them.
#[derive(Debug)]
pub(super) struct Modulations<'a> {
    /// [batch, all of them side by side]
    all: &'a Tensor,
    size: i64,
    next: i64,
}

impl<'a> Modulations<'a> {
    /// `size`: width of a part.
    pub(super) fn new(all: &'a Tensor, size: i64) -> Self {
        Self { all, size, next: 0 }
    }

    fn take(&mut self, parts: i64) -> Vec<Tensor> {
        let from = self.next;
        self.next += parts * self.size;
        self.all.narrow(-1, from, parts * self.size).chunk(parts, -1)
    }
}

// Tokens are [tokens, batch, size]: those of the image and those of the text are then parts of one piece of
// memory, and attention over both reads and writes it without a copy.

/// x + gate · y, `gate` being [batch, size].
fn gated_add(x: &Tensor, y: &Tensor, gate: &Tensor) -> Tensor {
    fused::gated_add(x, y, gate).unwrap_or_else(|| x.addcmul(gate, y))
}

/// A norm without weights, then scale and shift.
pub(super) fn modulated_norm(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
    fused::modulated_norm(x, &Modulation { shift, scale }, EPS).unwrap_or_else(|| {
        let size = *x.size().last().unwrap_or(&0);
        shift.addcmul(&LayerNorm::plain(size, EPS).forward(x), &(scale + 1.0))
    })
}

/// s = x + gate · y where something is added, else x, and the norm of s with scale and shift.
fn gated_add_norm(x: &Tensor, added: Option<(&Tensor, &Tensor)>, shift: &Tensor, scale: &Tensor) -> (Tensor, Tensor) {
    let Some((y, gate)) = added else { return (x.shallow_clone(), modulated_norm(x, shift, scale)) };
    fused::gated_add_modulated_norm(x, y, gate, &Modulation { shift, scale }, EPS).unwrap_or_else(|| {
        let sum = gated_add(x, y, gate);
        let normed = modulated_norm(&sum, shift, scale);
        (sum, normed)
    })
}

/// How the norms of a block leave their rows for the layers that read them.
#[derive(Debug, Clone, Copy)]
struct Norms {
    float8: bool,
}

impl Norms {
    /// As [`gated_add_norm`].
    fn gated_add(
        self,
        x: &Tensor,
        added: Option<(&Tensor, &Tensor)>,
        shift: &Tensor,
        scale: &Tensor,
    ) -> (Tensor, LayerInput) {
        let modulation = Modulation { shift, scale };
        if self.float8
            && let Some((sum, rows)) = fused::gated_add_modulated_norm_float8(x, added, &modulation, EPS)
        {
            return (sum, LayerInput::Float8(Float8Rows::from_scaled(rows, x.kind())));
        }
        let (sum, normed) = gated_add_norm(x, added, shift, scale);
        let input = if self.float8 { LayerInput::Float8(Float8Rows::of(&normed)) } else { LayerInput::Plain(normed) };
        (sum, input)
    }
}

/// Tokens x, or x + gate · y where that has not been added yet: the next norm adds it on its way.
#[derive(Debug)]
pub(super) struct Tokens {
    x: Tensor,
    added: Option<(Tensor, Tensor)>,
}

impl Tokens {
    pub(super) fn new(x: Tensor) -> Self {
        Self { x, added: None }
    }

    /// The norm of the tokens with scale and shift.
    pub(super) fn norm(self, shift: &Tensor, scale: &Tensor) -> Tensor {
        gated_add_norm(&self.x, self.added(), shift, scale).1
    }

    fn added(&self) -> Option<(&Tensor, &Tensor)> {
        self.added.as_ref().map(|(y, gate)| (y, gate))
    }
}

/// Queries, keys and values of one stream, each head by itself.
#[derive(Debug)]
struct Projections {
    /// The three layers side by side.
    qkv: AnyLinear,
    norm_q: Option<RmsNorm>,
    norm_k: Option<RmsNorm>,
    heads: i64,
    /// Attention in float8, where that is possible.
    float8: bool,
}

impl Projections {
    /// `names`: of query, key, value, norm of query, norm of key.
    fn new(weights: &Weights, names: [&str; 5], config: &Config) -> Result<Self> {
        let size = config.inner_dim();
        let norm = |name: &str| RmsNorm::new(&weights.at(name), config.attention_head_dim, EPS);
        let normed = config.qk_norm.is_some();
        Ok(Self {
            qkv: AnyLinear::joined(weights, &names[..3], size, size)?,
            norm_q: normed.then(|| norm(names[3])).transpose()?,
            norm_k: normed.then(|| norm(names[4])).transpose()?,
            heads: config.num_attention_heads,
            float8: weights.wants_float8(),
        })
    }

    /// Queries, keys and values of tokens [tokens, batch, size] into `out` [tokens, batch, 3 · size], which is
    /// contiguous.
    fn forward_into(&self, x: &LayerInput, out: &Tensor) {
        self.qkv.forward_into(x, out);
        if let (Some(norm_q), Some(norm_k)) = (&self.norm_q, &self.norm_k) {
            norm_q.norm_heads(norm_k, out, self.heads);
        }
    }

    /// Memory for queries, keys and values of so many tokens like x.
    fn room(&self, x: &LayerInput, tokens: i64) -> Tensor {
        let size = x.size();
        x.room(&[tokens, size[1], 3 * size[2]])
    }

    /// Attention of the first `queries` tokens over all of [tokens, batch, 3 · size]: [queries, batch, size]; of all tokens in
    /// float8.
    fn attend(&self, qkv: &Tensor, queries: i64) -> Tensor {
        if self.float8
            && let Some(out) = float8_attention(qkv, self.heads)
        {
            return out;
        }
        let size = qkv.size();
        // [tokens, batch, 3, heads, head_dim] → three of [batch, heads, tokens, head_dim]
        let parts = qkv.view([size[0], size[1], 3, self.heads, -1]).permute([2, 1, 3, 0, 4]).unbind(0);
        let out = attention(&parts[0].narrow(2, 0, queries), &parts[1], &parts[2], None);
        out.permute([2, 0, 1, 3]).reshape([queries, size[1], -1])
    }
}

const OWN: [&str; 5] = ["to_q", "to_k", "to_v", "norm_q", "norm_k"];
const ADDED: [&str; 5] = ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"];

/// Attention of image tokens and text tokens over both.
#[derive(Debug)]
struct JointAttention {
    image: Projections,
    text: Projections,
    to_out: AnyLinear,
    /// None where the text is not read any more.
    to_add_out: Option<AnyLinear>,
}

impl JointAttention {
    fn new(weights: &Weights, config: &Config, last: bool) -> Result<Self> {
        let size = config.inner_dim();
        let add_out = || AnyLinear::new(&weights.at("to_add_out"), size, size);
        Ok(Self {
            image: Projections::new(weights, OWN, config)?,
            text: Projections::new(weights, ADDED, config)?,
            to_out: AnyLinear::new(&weights.at("to_out.0"), size, size)?,
            to_add_out: (!last).then(add_out).transpose()?,
        })
    }

    fn forward(&self, image: &LayerInput, text: &LayerInput) -> (Tensor, Option<Tensor>) {
        let (image_tokens, text_tokens) = (image.size()[0], text.size()[0]);
        let of_image = |x: &Tensor| x.narrow(0, 0, image_tokens);
        let of_text = |x: &Tensor| x.narrow(0, image_tokens, text_tokens);
        let joint = self.image.room(image, image_tokens + text_tokens);
        self.image.forward_into(image, &of_image(&joint));
        self.text.forward_into(text, &of_text(&joint));
        // On a CPU nothing is computed of text that is not read any more. On a GPU, whose kernels know queries and keys of
        // one count best, that is a small part of a picture's tokens.
        let reads_text = self.to_add_out.is_some() || joint.device().is_cuda();
        let out = self.image.attend(&joint, if reads_text { image_tokens + text_tokens } else { image_tokens });
        let text = |linear: &AnyLinear| linear.forward(&LayerInput::Plain(of_text(&out)));
        (self.to_out.forward(&LayerInput::Plain(of_image(&out))), self.to_add_out.as_ref().map(text))
    }
}

/// Attention of image tokens over themselves.
#[derive(Debug)]
struct ImageAttention {
    image: Projections,
    to_out: AnyLinear,
}

impl ImageAttention {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let size = config.inner_dim();
        Ok(Self {
            image: Projections::new(weights, OWN, config)?,
            to_out: AnyLinear::new(&weights.at("to_out.0"), size, size)?,
        })
    }

    fn forward(&self, x: &LayerInput) -> Tensor {
        let qkv = self.image.room(x, x.size()[0]);
        self.image.forward_into(x, &qkv);
        self.to_out.forward(&LayerInput::Plain(self.image.attend(&qkv, x.size()[0])))
    }
}

#[derive(Debug)]
pub(super) struct Block {
    norm1: AdaNorm,
    norm1_context: AdaNorm,
    attn: JointAttention,
    attn2: Option<ImageAttention>,
    ff: FeedForward,
    /// None in the last block, after which the text is not read any more.
    ff_context: Option<FeedForward>,
    norms: Norms,
}

impl Block {
    pub(super) fn new(weights: &Weights, index: usize, config: &Config) -> Result<Self> {
        let size = config.inner_dim();
        let (last, dual) = (index + 1 == config.num_layers, config.dual_attention_layers.contains(&index));
        let feed_forward = |name| FeedForward::new(&weights.at(name), size);
        Ok(Self {
            norm1: AdaNorm::new(&weights.at("norm1"), size, if dual { 9 } else { 6 })?,
            norm1_context: AdaNorm::new(&weights.at("norm1_context"), size, if last { 2 } else { 6 })?,
            attn: JointAttention::new(&weights.at("attn"), config, last)?,
            attn2: dual.then(|| ImageAttention::new(&weights.at("attn2"), config)).transpose()?,
            ff: feed_forward("ff")?,
            ff_context: (!last).then(|| feed_forward("ff_context")).transpose()?,
            norms: Norms { float8: weights.wants_float8() },
        })
    }

    /// The layers whose shifts, scales and gates the block takes, in that order.
    pub(super) fn norms(&self) -> [&AdaNorm; 2] {
        [&self.norm1, &self.norm1_context]
    }

    /// Image tokens and text tokens, one block on. The last block gives no text.
    pub(super) fn forward(&self, image: Tokens, text: Tokens, of_step: &mut Modulations) -> (Tokens, Option<Tokens>) {
        let of_image = self.norm1.take(of_step);
        let of_text = self.norm1_context.take(of_step);
        let norms = self.norms;
        let (image, normed_image) = norms.gated_add(&image.x, image.added(), &of_image[0], &of_image[1]);
        // The last block's norm of the text has scale before shift.
        let (shift, scale) = if self.ff_context.is_some() { (0, 1) } else { (1, 0) };
        let (text, normed_text) = norms.gated_add(&text.x, text.added(), &of_text[shift], &of_text[scale]);
        let (image_out, text_out) = self.attn.forward(&normed_image, &normed_text);
        let (image, normed) = match &self.attn2 {
            None => norms.gated_add(&image, Some((&image_out, &of_image[2])), &of_image[3], &of_image[4]),
            Some(attn2) => {
                let out = attn2.forward(&norms.gated_add(&image, None, &of_image[6], &of_image[7]).1);
                let image = gated_add(&image, &image_out, &of_image[2]);
                norms.gated_add(&image, Some((&out, &of_image[8])), &of_image[3], &of_image[4])
            }
        };
        let image = Tokens { x: image, added: Some((self.ff.forward(&normed), of_image[5].shallow_clone())) };
        let text = self.ff_context.as_ref().zip(text_out).map(|(ff, out)| {
            let (text, normed) = norms.gated_add(&text, Some((&out, &of_text[2])), &of_text[3], &of_text[4]);
            Tokens { x: text, added: Some((ff.forward(&normed), of_text[5].shallow_clone())) }
        });
        (image, text)
    }
}
