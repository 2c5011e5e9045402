//! The denoiser of Stable Diffusion 3: a transformer over image and text tokens together (MMDiT),
//! with the extras of Stable Diffusion 3.5 (normalised queries and keys, a second attention).
//!
//! Architecture: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/transformers/transformer_sd3.py>

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::block::{AdaNorm, Block, Modulations, Tokens, TwoLayers};
pub use super::config::Config;
use crate::checkpoints::Weights;
use crate::nn::{Activation, Conv2d, Linear};

/// Width of the sinusoids that a time is written as.
const TIME_CHANNELS: i64 = 256;

/// Bytes that a core of a CPU keeps near itself.
const NEAR: i64 = 2 << 20;

/// What the denoiser reads besides the latents.
#[derive(Debug)]
pub struct Conditioning {
    /// The text, as wide as the image tokens: [tokens, batch, size].
    pub context: Tensor,
    /// Shifts, scales and gates that time and pooled text make, of all blocks and of the end side by side:
    /// [steps, batch, parts · size].
    pub modulations: Tensor,
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
        let norms = self.transformer_blocks.iter().flat_map(Block::norms).chain([&self.norm_out]);
        let modulations: Vec<Tensor> = norms.map(|norm| norm.all_steps(&temb)).collect();
        let context = self.context_embedder.forward(&prompt.to_kind(self.kind));
        Conditioning { context: context.transpose(0, 1).contiguous(), modulations: Tensor::cat(&modulations, -1) }
    }

    /// The velocity at one step: latents [batch, in_channels, height, width] → the same with out_channels.
    /// `context` [tokens, batch, size] and `modulations` [batch, parts · size] are those of [`Conditioning`].
    pub fn forward(&self, latents: &Tensor, context: &Tensor, modulations: &Tensor) -> Tensor {
        let (rows, at_a_time) = (latents.size()[0], self.at_a_time(latents, context));
        if rows <= at_a_time {
            return self.forward_together(latents, context, modulations);
        }
        let part = |first: i64| {
            let count = at_a_time.min(rows - first);
            let [latents, modulations] = [latents, modulations].map(|x| x.narrow(0, first, count));
            self.forward_together(&latents, &context.narrow(1, first, count).contiguous(), &modulations)
        };
        Tensor::cat(&(0..rows).step_by(at_a_time as usize).map(part).collect::<Vec<_>>(), 0)
    }

    /// On a CPU so many pictures that what a layer writes for them is still near when the next one reads it; all of them
    /// elsewhere.
    fn at_a_time(&self, latents: &Tensor, context: &Tensor) -> i64 {
        if latents.device() != Device::Cpu {
            return i64::MAX;
        }
        let (patch, size) = (self.config.patch_size, latents.size());
        let tokens = context.size()[0] + size[2] / patch * (size[3] / patch);
        // The widest layer of a block is the first of its feed-forward.
        let widest = tokens * 4 * self.config.inner_dim() * latents.kind().elt_size_in_bytes() as i64;
        (NEAR / widest).max(1)
    }

    fn forward_together(&self, latents: &Tensor, context: &Tensor, modulations: &Tensor) -> Tensor {
        let (patch, size) = (self.config.patch_size, latents.size());
        let (rows, columns) = (size[2] / patch, size[3] / patch);
        let mut of_step = Modulations::new(modulations, self.config.inner_dim());
        let patches = self.proj.patches(latents).transpose(0, 1); // [tokens, batch, size]
        let mut image = Tokens::new((patches + self.positions(rows, columns)).contiguous());
        let mut text = Some(Tokens::new(context.shallow_clone()));
        for block in &self.transformer_blocks {
            let Some(read) = text else { break };
            (image, text) = block.forward(image, read, &mut of_step);
        }
        let parts = self.norm_out.take(&mut of_step);
        let out = self.proj_out.forward(&image.norm(&parts[1], &parts[0]));
        // [rows · columns, batch, patch · patch · channels] → [batch, channels, height, width]
        out.view([rows, columns, size[0], patch, patch, -1]).permute([2, 5, 0, 3, 1, 4]).reshape([
            size[0],
            -1,
            rows * patch,
            columns * patch,
        ])
    }

    /// The middle of the square of positions: [rows · columns, 1, size].
    fn positions(&self, rows: i64, columns: i64) -> Tensor {
        let side = self.config.pos_embed_max_size;
        let crop = self.pos_embed.narrow(1, (side - rows) / 2, rows).narrow(2, (side - columns) / 2, columns);
        crop.flatten(1, 2).transpose(0, 1)
    }
}

/// Times as sinusoids, cosines first, in float32: [steps] → [steps, 256].
fn sinusoids(times: &Tensor) -> Tensor {
    let half = TIME_CHANNELS / 2;
    let exponent = Tensor::arange(half, (Kind::Float, times.device())) * -(10000f64.ln()) / half as f64;
    let angles = times.to_kind(Kind::Float).unsqueeze(1) * exponent.exp().unsqueeze(0);
    Tensor::cat(&[angles.cos(), angles.sin()], 1)
}
