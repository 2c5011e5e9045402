//! The denoiser of Stable Diffusion 1 and 2: a U-Net over latents that reads a text.
//!
//! Architecture: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/unets/unet_2d_condition.py>

use anyhow::Result;
use tch::{Kind, Tensor};

pub use super::unet_config::Config;
use super::unet_config::Layout;
use super::unet_encoder::{Builder, Encoder, Layer, conv};
pub use super::unet_encoder::{Conditioning, Known, UnetTexts};
use crate::checkpoints::Weights;
use crate::nn::{Conv2d, DeferredBias, GroupNorm, upsample_nearest};

#[derive(Debug)]
struct UpBlock {
    layers: Vec<Layer>,
    upsampler: Option<Conv2d>,
}

impl UpBlock {
    /// The way up at size `i`: it reads what came from the size below, and what the way down kept.
    fn new(weights: &Weights, layout: &Layout, i: usize, builder: &mut Builder) -> Result<Self> {
        let sizes = &layout.sizes;
        let size = &sizes[i];
        let below = sizes[(i + 1).min(sizes.len() - 1)].channels;
        let above = sizes[i.saturating_sub(1)].channels;
        let input = |layer: usize| {
            let own = if layer == 0 { below } else { size.channels };
            own + if layer == size.layers { above } else { size.channels }
        };
        let inputs: Vec<i64> = (0..=size.layers).map(input).collect();
        let sampler = || conv(&weights.at("upsamplers.0.conv"), size.channels, size.channels, 1, 1);
        Ok(Self {
            layers: builder.layers(weights, &inputs, size, size.up_attention)?,
            upsampler: (i > 0).then(sampler).transpose()?,
        })
    }

    fn forward(&self, x: Tensor, known: &Known, kept: &mut Vec<Tensor>) -> Tensor {
        let mut x = x;
        for layer in &self.layers {
            let both = match kept.pop() {
                Some(skip) => Tensor::cat(&[&x, &skip], 1),
                None => x,
            };
            x = layer.forward(&both, known);
        }
        if let (Some(conv), Some(next)) = (&self.upsampler, kept.last()) {
            // Twice the size, but for sides that were odd on the way down.
            let size = next.size();
            x = conv.forward(&upsample_nearest(&x, [size[2], size[3]]));
        }
        x
    }
}

/// What a ControlNet adds to what the way up reads, and to what comes out of the middle.
#[derive(Debug)]
pub struct Residuals {
    pub down: Vec<Tensor>,
    pub middle: Tensor,
}

/// The U-Net.
#[derive(Debug)]
pub struct Unet {
    encoder: Encoder,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Unet {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let layout = config.layout()?;
        let (count, first, kernel) = (layout.sizes.len(), layout.sizes[0].channels, config.conv_out_kernel);
        let mut builder = Builder { config, times: 0, attentions: 0 };
        let encoder = Encoder::new(weights, &layout, &mut builder)?;
        let up = |i| UpBlock::new(&weights.at("up_blocks").at(i), &layout, count - 1 - i, &mut builder);
        let (norm, out) = (weights.at("conv_norm_out"), weights.at("conv_out"));
        Ok(Self {
            encoder,
            up_blocks: (0..count).map(up).collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::new(&norm, config.norm_num_groups, first, config.norm_eps)?,
            conv_out: Conv2d::new(&out, first, config.out_channels, kernel, 1, kernel / 2)?.channels_last(&out),
        })
    }

    pub fn kind(&self) -> Kind {
        self.encoder.kind
    }

    /// `text`: [batch, tokens, cross_attention_dim]; `timesteps`: all of them, in the order of the steps.
    pub fn condition(&self, text: &Tensor, timesteps: &[f64]) -> Conditioning {
        let above: Vec<&Layer> = self.up_blocks.iter().flat_map(|block| &block.layers).collect();
        self.encoder.condition(text, timesteps, &above)
    }

    /// The model's output at this step: latents [batch, in_channels, height, width] → the same with out_channels.
    pub fn forward(&self, latents: &Tensor, conditioning: &Conditioning, step: usize) -> Tensor {
        let Conditioning { times, texts } = conditioning;
        self.step(latents, &Known { times: &times.get(step as i64), texts }, None)
    }

    /// The same of what is known at the step.
    pub fn step(&self, latents: &Tensor, known: &Known, residuals: Option<&Residuals>) -> Tensor {
        let (mut x, mut kept) = self.encoder.forward(latents, known, None);
        if let Some(Residuals { down, middle }) = residuals {
            kept = kept.iter().zip(down).map(|(kept, residual)| kept + residual).collect();
            x = &x + middle;
        }
        for block in &self.up_blocks {
            x = block.forward(x, known, &mut kept);
        }
        self.conv_out
            .forward(&self.conv_norm_out.forward_activated(&DeferredBias::from(&x), self.encoder.config.act_fn))
    }
}
