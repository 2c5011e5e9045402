//! The way down of the U-Net and its middle, which a ControlNet has too.
//!
//! Architecture: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/unets/unet_2d_blocks.py>

use anyhow::Result;
use tch::{Kind, Tensor};

use super::transformer::{Text, Transformer};
use super::unet_config::{Config, Layout, Middle, Size};
use crate::checkpoints::Weights;
use crate::nn::{Conv2d, Linear, ResnetBlock, ResnetStyle, channels_last};

/// A resnet that the time shifts between its convolutions.
#[derive(Debug)]
pub(super) struct Resnet {
    block: ResnetBlock,
    time_emb_proj: Linear,
    output_scale: f64,
    /// Where its numbers are in [`Conditioning::times`], and how many.
    first: i64,
    channels: i64,
}

impl Resnet {
    /// The bias of the first convolution with the time added to it: one for each step, [steps, output].
    pub(super) fn read_times(&self, times: &Tensor) -> Tensor {
        let times = self.time_emb_proj.forward(times);
        self.block.first_bias().map_or_else(|| times.shallow_clone(), |bias| &times + bias)
    }

    pub(super) fn forward(&self, x: &Tensor, known: &Known) -> Tensor {
        let out = self.block.forward(x, Some(&known.times.narrow(0, self.first, self.channels)));
        if self.output_scale == 1.0 { out } else { out / self.output_scale }
    }
}

/// A transformer, and its place among the [`UnetTexts`].
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) transformer: Transformer,
    slot: usize,
}

impl Attention {
    pub(super) fn forward(&self, x: &Tensor, known: &Known) -> Tensor {
        self.transformer.forward(x, &known.texts[self.slot])
    }
}

/// A convolution of 3 × 3 places.
pub(super) fn conv(weights: &Weights, input: i64, output: i64, stride: i64, padding: i64) -> Result<Conv2d> {
    Ok(Conv2d::new(weights, input, output, 3, stride, padding)?.channels_last(weights))
}

/// Builds the parts in the order in which they are used, and numbers them.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    pub(super) config: &'a Config,
    /// Channels of all resnets so far.
    pub(super) times: i64,
    pub(super) attentions: usize,
}

impl Builder<'_> {
    pub(super) fn resnet(&mut self, weights: &Weights, input: i64, output: i64, output_scale: f64) -> Result<Resnet> {
        let Config { norm_num_groups: groups, norm_eps: eps, act_fn: act, .. } = *self.config;
        let first = self.times;
        self.times += output;
        Ok(Resnet {
            block: ResnetBlock::new(weights, input, output, ResnetStyle { groups, eps, act })?,
            time_emb_proj: Linear::new(&weights.at("time_emb_proj"), self.config.time_width(), output)?,
            output_scale,
            first,
            channels: output,
        })
    }

    pub(super) fn attention(&mut self, weights: &Weights, size: &Size) -> Result<Attention> {
        let slot = self.attentions;
        self.attentions += 1;
        Ok(Attention { transformer: Transformer::new(weights, size, self.config)?, slot })
    }

    /// The layers of a block: `inputs` are the channels that each reads.
    pub(super) fn layers(
        &mut self,
        weights: &Weights,
        inputs: &[i64],
        size: &Size,
        attention: bool,
    ) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for (i, &input) in inputs.iter().enumerate() {
            let resnet = self.resnet(&weights.at("resnets").at(i), input, size.channels, 1.0)?;
            let attention = if attention { Some(self.attention(&weights.at("attentions").at(i), size)?) } else { None };
            layers.push(Layer { resnet, attention });
        }
        Ok(layers)
    }

    pub(super) fn down(&mut self, weights: &Weights, layout: &Layout, i: usize) -> Result<DownBlock> {
        let size = &layout.sizes[i];
        let mut inputs = vec![size.channels; size.layers];
        inputs[0] = layout.sizes[i.saturating_sub(1)].channels;
        let padding = self.config.downsample_padding;
        let sampler = || conv(&weights.at("downsamplers.0.conv"), size.channels, size.channels, 2, padding);
        Ok(DownBlock {
            layers: self.layers(weights, &inputs, size, size.down_attention)?,
            downsampler: (i + 1 < layout.sizes.len()).then(sampler).transpose()?,
            padding,
        })
    }

    pub(super) fn middle(&mut self, weights: &Weights, layout: &Layout) -> Result<Option<MidBlock>> {
        let size = &layout.sizes[layout.sizes.len() - 1];
        let scale = self.config.mid_block_scale_factor;
        if layout.middle == Middle::Nothing {
            return Ok(None);
        }
        let first = self.resnet(&weights.at("resnets.0"), size.channels, size.channels, scale)?;
        let mut rest = None;
        if layout.middle == Middle::CrossAttention {
            let attention = self.attention(&weights.at("attentions.0"), size)?;
            rest = Some((attention, self.resnet(&weights.at("resnets.1"), size.channels, size.channels, scale)?));
        }
        Ok(Some(MidBlock { first, rest }))
    }
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) resnet: Resnet,
    pub(super) attention: Option<Attention>,
}

impl Layer {
    pub(super) fn forward(&self, x: &Tensor, known: &Known) -> Tensor {
        let x = self.resnet.forward(x, known);
        self.attention.as_ref().map_or_else(|| x.shallow_clone(), |attention| attention.forward(&x, known))
    }
}

#[derive(Debug)]
pub(super) struct DownBlock {
    layers: Vec<Layer>,
    downsampler: Option<Conv2d>,
    padding: i64,
}

impl DownBlock {
    /// What every layer gives is kept for the way up.
    pub(super) fn forward(&self, x: Tensor, known: &Known, kept: &mut Vec<Tensor>) -> Tensor {
        let mut x = x;
        for layer in &self.layers {
            x = layer.forward(&x, known);
            kept.push(x.shallow_clone());
        }
        if let Some(conv) = &self.downsampler {
            // Without padding of its own: padded on the right and below.
            x = if self.padding == 0 { conv.forward(&x.constant_pad_nd([0, 1, 0, 1])) } else { conv.forward(&x) };
            kept.push(x.shallow_clone());
        }
        x
    }
}

#[derive(Debug)]
pub(super) struct MidBlock {
    first: Resnet,
    rest: Option<(Attention, Resnet)>,
}

impl MidBlock {
    pub(super) fn forward(&self, x: &Tensor, known: &Known) -> Tensor {
        let x = self.first.forward(x, known);
        match &self.rest {
            Some((attention, second)) => second.forward(&attention.forward(&x, known), known),
            None => x,
        }
    }
}

/// The text as every attention and each of its layers reads it.
pub type UnetTexts = Vec<Vec<Text>>;

/// What the denoiser reads besides the latents, worked out once for all steps.
#[derive(Debug)]
pub struct Conditioning {
    /// What each step adds within the resnets, one after another: [steps, channels of all resnets].
    pub times: Tensor,
    pub texts: UnetTexts,
}

/// What is known at a step.
pub struct Known<'a> {
    /// [channels of all resnets]
    pub times: &'a Tensor,
    pub texts: &'a UnetTexts,
}

/// The way down and the middle.
#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    linear_1: Linear,
    linear_2: Linear,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    pub(super) config: Config,
    pub(super) kind: Kind,
}

impl Encoder {
    pub(super) fn new(weights: &Weights, layout: &Layout, builder: &mut Builder) -> Result<Self> {
        let (config, first) = (builder.config, layout.sizes[0].channels);
        let (time, width, kernel) = (weights.at("time_embedding"), config.time_width(), config.conv_in_kernel);
        let conv_in = weights.at("conv_in");
        let down = |i| builder.down(&weights.at("down_blocks").at(i), layout, i);
        Ok(Self {
            conv_in: Conv2d::new(&conv_in, config.in_channels, first, kernel, 1, kernel / 2)?.channels_last(&conv_in),
            linear_1: Linear::new(&time.at("linear_1"), first, width)?,
            linear_2: Linear::new(&time.at("linear_2"), width, width)?,
            down_blocks: (0..layout.sizes.len()).map(down).collect::<Result<_>>()?,
            mid_block: builder.middle(&weights.at("mid_block"), layout)?,
            config: config.clone(),
            kind: weights.kind(),
        })
    }

    /// What is worked out once for all steps, of these layers and of `above`, those of a way up.
    /// `text`: [batch, tokens, cross_attention_dim]; `timesteps`: all of them, in the order of the steps.
    pub(super) fn condition(&self, text: &Tensor, timesteps: &[f64], above: &[&Layer]) -> Conditioning {
        let text = text.to_kind(self.kind);
        let steps: Vec<f32> = timesteps.iter().map(|&time| time as f32).collect();
        let times = self.sinusoids(&Tensor::from_slice(&steps).to_device(text.device())).to_kind(self.kind);
        let times = self.linear_2.forward(&self.config.act_fn.apply(&self.linear_1.forward(&times)));
        let times = self.config.act_fn.apply(&times); // [steps, time_width]
        let down: Vec<&Layer> = self.down_blocks.iter().flat_map(|block| &block.layers).collect();
        let (mut resnets, mut attentions): (Vec<&Resnet>, Vec<&Attention>) = (Vec::new(), Vec::new());
        // In the order in which they were numbered.
        for layer in &down {
            resnets.push(&layer.resnet);
            attentions.extend(&layer.attention);
        }
        if let Some(block) = &self.mid_block {
            resnets.push(&block.first);
            if let Some((attention, second)) = &block.rest {
                attentions.push(attention);
                resnets.push(second);
            }
        }
        for layer in above {
            resnets.push(&layer.resnet);
            attentions.extend(&layer.attention);
        }
        let read: Vec<Tensor> = resnets.iter().map(|resnet| resnet.read_times(&times)).collect();
        Conditioning {
            times: Tensor::cat(&read, 1),
            texts: attentions.iter().map(|attention| attention.transformer.read(&text)).collect(),
        }
    }

    /// Latents [batch, in_channels, height, width], or with `hint` [batch, first width, height, width] added to what is
    /// made of them first → what comes out of the middle, and what the way up reads.
    pub(super) fn forward(&self, latents: &Tensor, known: &Known, hint: Option<&Tensor>) -> (Tensor, Vec<Tensor>) {
        let latents = channels_last(latents);
        let mut x = if self.config.center_input_sample {
            self.conv_in.forward(&(latents * 2.0 - 1.0))
        } else {
            self.conv_in.forward(&latents)
        };
        if let Some(hint) = hint {
            x = &x + hint;
        }
        let mut kept = vec![x.shallow_clone()];
        for block in &self.down_blocks {
            x = block.forward(x, known, &mut kept);
        }
        if let Some(block) = &self.mid_block {
            x = block.forward(&x, known);
        }
        (x, kept)
    }

    /// Times as sinusoids, in float32: [steps] → [steps, first width].
    fn sinusoids(&self, times: &Tensor) -> Tensor {
        let width = self.config.block_out_channels[0];
        let half = width / 2;
        let exponent = Tensor::arange(half, (Kind::Float, times.device())) * -(10000f64.ln());
        let frequencies = (exponent / (half as f64 - self.config.freq_shift)).exp();
        let angles = times.unsqueeze(1) * frequencies.unsqueeze(0);
        let (sin, cos) = (angles.sin(), angles.cos());
        let both = if self.config.flip_sin_to_cos { [cos, sin] } else { [sin, cos] };
        Tensor::cat(&both, 1).constant_pad_nd([0, width % 2])
    }
}
