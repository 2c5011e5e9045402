//! How IP-Adapters (Ye et al. 2023, <https://arxiv.org/abs/2308.06721>) make tokens of pictures, which the U-Net reads as it
//! reads those of a text.
//!
//! Architecture: <https://github.com/tencent-ailab/IP-Adapter/tree/main/ip_adapter>, whose names the published files have
//! (`ImageProjModel`, `MLPProjModel`, `Resampler`).

use anyhow::Result;
use tch::Tensor;

use crate::checkpoints::Weights;
use crate::models::vision::image_encoder::ImageEncoder;
use crate::nn::{Activation, LayerNorm, Linear, attention, join_heads, split_heads};

const EPS: f64 = 1e-5;
/// Numbers of one head of the resampler.
const HEAD: i64 = 64;

/// What an adapter makes tokens of, with the sizes that its tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectionSizes {
    /// The picture as a whole, of so many numbers: `ip-adapter_sd15`, `-light`.
    Whole { picture: i64, tokens: i64 },
    /// Each place of the picture by itself: `-full-face`.
    Places { hidden: i64 },
    /// All places, which some learnt tokens look at: `-plus`.
    Resampler { hidden: i64, width: i64, tokens: i64, heads: i64, layers: usize, inner: i64 },
}

impl ProjectionSizes {
    /// Those that the tensors below `image_proj` have; None where they are of no known layout. `text`: the width of a token.
    pub fn of(shape: impl Fn(&str) -> Option<Vec<i64>>, text: i64) -> Option<Self> {
        let two = |name: &str| shape(name).and_then(|shape| <[i64; 2]>::try_from(shape).ok());
        if let Some([outputs, picture]) = two("proj.weight") {
            return Some(Self::Whole { picture, tokens: (outputs / text.max(1)).max(1) });
        }
        if let (Some([_, hidden]), Some(_)) = (two("proj.0.weight"), shape("proj.3.weight")) {
            return Some(Self::Places { hidden });
        }
        let [_, tokens, _] = <[i64; 3]>::try_from(shape("latents")?).ok()?;
        let ([width, hidden], [rows, _]) = (two("proj_in.weight")?, two("layers.0.0.to_q.weight")?);
        let [inner, _] = two("layers.0.1.1.weight")?;
        let layers = (0..).take_while(|i| shape(&format!("layers.{i}.0.to_q.weight")).is_some()).count();
        Some(Self::Resampler { hidden, width, tokens, heads: (rows / HEAD).max(1), layers, inner })
    }

    /// What it makes of a picture, in a few words.
    pub fn shows(&self) -> String {
        match self {
            Self::Whole { tokens, .. } => format!("{tokens} tokens of the whole"),
            Self::Places { .. } => "a token for each of its places".to_string(),
            Self::Resampler { tokens, .. } => format!("{tokens} tokens of its places"),
        }
    }

    /// Numbers of the encoder that are read, and which of its own they are.
    pub fn reads(&self) -> (i64, &'static str) {
        match *self {
            Self::Whole { picture, .. } => (picture, "projection_dim"),
            Self::Places { hidden } | Self::Resampler { hidden, .. } => (hidden, "hidden_size"),
        }
    }
}

/// One look of the resampler's tokens at the places of the picture.
#[derive(Debug)]
pub struct Look {
    norm1: LayerNorm,
    norm2: LayerNorm,
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
    norm: LayerNorm,
    wide: Linear,
    narrow: Linear,
    heads: i64,
}

impl Look {
    fn new(weights: &Weights, width: i64, heads: i64, inner: i64) -> Result<Self> {
        let (attention, after) = (weights.at(0), weights.at(1));
        Ok(Self {
            norm1: LayerNorm::new(&attention.at("norm1"), width, EPS)?,
            norm2: LayerNorm::new(&attention.at("norm2"), width, EPS)?,
            to_q: Linear::without_bias(&attention.at("to_q"), width, heads * HEAD)?,
            to_kv: Linear::without_bias(&attention.at("to_kv"), width, 2 * heads * HEAD)?,
            to_out: Linear::without_bias(&attention.at("to_out"), heads * HEAD, width)?,
            norm: LayerNorm::new(&after.at(0), width, EPS)?,
            wide: Linear::without_bias(&after.at(1), width, inner)?,
            narrow: Linear::without_bias(&after.at(3), inner, width)?,
            heads,
        })
    }

    /// `places` [batch, places, width], `tokens` [batch, tokens, width] → as the tokens. They look at themselves too.
    fn forward(&self, places: &Tensor, tokens: &Tensor) -> Tensor {
        let normed = self.norm2.forward(tokens);
        let both = Tensor::cat(&[&self.norm1.forward(places), &normed], 1);
        let split = |x: &Tensor| split_heads(&x.contiguous(), self.heads);
        let kv = self.to_kv.forward(&both).chunk(2, -1);
        let seen = attention(&split(&self.to_q.forward(&normed)), &split(&kv[0]), &split(&kv[1]), None);
        let tokens = tokens + self.to_out.forward(&join_heads(&seen));
        let inner = Activation::Gelu.apply(&self.wide.forward(&self.norm.forward(&tokens)));
        tokens + self.narrow.forward(&inner)
    }
}

/// From what the encoder sees to tokens.
#[derive(Debug)]
pub enum ImageProjection {
    Whole { proj: Linear, norm: LayerNorm, tokens: i64 },
    Places { first: Linear, second: Linear, norm: LayerNorm },
    Resampler { latents: Tensor, proj_in: Linear, looks: Vec<Look>, proj_out: Linear, norm_out: LayerNorm },
}

impl ImageProjection {
    /// `weights`: the place of `image_proj`.
    pub fn new(weights: &Weights, sizes: ProjectionSizes, text: i64) -> Result<Self> {
        Ok(match sizes {
            ProjectionSizes::Whole { picture, tokens } => Self::Whole {
                proj: Linear::new(&weights.at("proj"), picture, tokens * text)?,
                norm: LayerNorm::new(&weights.at("norm"), text, EPS)?,
                tokens,
            },
            ProjectionSizes::Places { hidden } => Self::Places {
                first: Linear::new(&weights.at("proj.0"), hidden, hidden)?,
                second: Linear::new(&weights.at("proj.2"), hidden, text)?,
                norm: LayerNorm::new(&weights.at("proj.3"), text, EPS)?,
            },
            ProjectionSizes::Resampler { hidden, width, tokens, heads, layers, inner } => {
                let look = |i| Look::new(&weights.at("layers").at(i), width, heads, inner);
                Self::Resampler {
                    latents: weights.get("latents", &[1, tokens, width])?,
                    proj_in: Linear::new(&weights.at("proj_in"), hidden, width)?,
                    looks: (0..layers).map(look).collect::<Result<_>>()?,
                    proj_out: Linear::new(&weights.at("proj_out"), width, text)?,
                    norm_out: LayerNorm::new(&weights.at("norm_out"), text, EPS)?,
                }
            }
        })
    }

    /// What stands against pictures where guidance leads away, and the pictures: [1 + pictures, tokens, text]. Against a
    /// picture as a whole nothing (zeros) stands, against its places those of a grey one.
    pub fn tokens(&self, encoder: &ImageEncoder, pixels: &Tensor) -> Tensor {
        let with_nothing = |x: &Tensor| Tensor::cat(&[x.narrow(0, 0, 1).zeros_like(), x.shallow_clone()], 0);
        match self {
            Self::Whole { proj, norm, tokens } => {
                let projected = proj.forward(&with_nothing(&encoder.embed(pixels)));
                norm.forward(&projected.view([projected.size()[0], *tokens, -1]))
            }
            Self::Places { first, second, norm } => {
                let places = encoder.places(&with_nothing(pixels));
                norm.forward(&second.forward(&Activation::Gelu.apply(&first.forward(&places))))
            }
            Self::Resampler { latents, proj_in, looks, proj_out, norm_out } => {
                let places = proj_in.forward(&encoder.places(&with_nothing(pixels)));
                let start = latents.expand([places.size()[0], -1, -1], false);
                let tokens = looks.iter().fold(start, |tokens, look| look.forward(&places, &tokens));
                norm_out.forward(&proj_out.forward(&tokens))
            }
        }
    }
}
