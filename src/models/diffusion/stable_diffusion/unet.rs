//! The denoiser of Stable Diffusion 1 and 2: a U-Net over latents that reads a text.
//!
//! Architecture: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/unets/unet_2d_condition.py>

use anyhow::Result;
use tch::{Kind, Tensor};

use super::transformer::{Text, Transformer};
pub use super::unet_config::Config;
use super::unet_config::{Layout, Middle, Size};
use crate::checkpoints::Weights;
use crate::nn::{Conv2d, DeferredBias, GroupNorm, Linear, ResnetBlock, ResnetStyle, channels_last, upsample_nearest};

/// A resnet that the time shifts between its convolutions.
#[derive(Debug)]
struct Resnet {
    block: ResnetBlock,
    time_emb_proj: Linear,
    output_scale: f64,
    /// Where its numbers are in [`Conditioning::times`], and how many.
    first: i64,
    channels: i64,
}

impl Resnet {
    /// The bias of the first convolution with the time added to it: one for each step, [steps, output].
    fn read_times(&self, times: &Tensor) -> Tensor {
        let times = self.time_emb_proj.forward(times);
        self.block.first_bias().map_or_else(|| times.shallow_clone(), |bias| &times + bias)
    }

    fn forward(&self, x: &Tensor, known: &Known) -> Tensor {
        let out = self.block.forward(x, Some(&known.times.narrow(0, self.first, self.channels)));
        if self.output_scale == 1.0 { out } else { out / self.output_scale }
    }
}

/// A transformer, and its place among the [`Texts`].
#[derive(Debug)]
struct Attention {
    transformer: Transformer,
    slot: usize,
}

impl Attention {
    fn forward(&self, x: &Tensor, known: &Known) -> Tensor {
        self.transformer.forward(x, &known.texts[self.slot])
    }
}

/// A convolution of 3 × 3 places.
fn conv(weights: &Weights, input: i64, output: i64, stride: i64, padding: i64) -> Result<Conv2d> {
    Ok(Conv2d::new(weights, input, output, 3, stride, padding)?.channels_last(weights))
}

/// Builds the parts in the order in which they are used, and numbers them.
struct Builder<'a> {
    config: &'a Config,
    /// Channels of all resnets so far.
    times: i64,
    attentions: usize,
}

impl Builder<'_> {
    fn resnet(&mut self, weights: &Weights, input: i64, output: i64, output_scale: f64) -> Result<Resnet> {
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

    fn attention(&mut self, weights: &Weights, size: &Size) -> Result<Attention> {
        let slot = self.attentions;
        self.attentions += 1;
        Ok(Attention { transformer: Transformer::new(weights, size, self.config)?, slot })
    }

    /// The layers of a block: `inputs` are the channels that each reads.
    fn layers(&mut self, weights: &Weights, inputs: &[i64], size: &Size, attention: bool) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for (i, &input) in inputs.iter().enumerate() {
            let resnet = self.resnet(&weights.at("resnets").at(i), input, size.channels, 1.0)?;
            let attention = if attention { Some(self.attention(&weights.at("attentions").at(i), size)?) } else { None };
            layers.push(Layer { resnet, attention });
        }
        Ok(layers)
    }

    fn down(&mut self, weights: &Weights, layout: &Layout, i: usize) -> Result<DownBlock> {
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

    fn middle(&mut self, weights: &Weights, layout: &Layout) -> Result<Option<MidBlock>> {
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

    /// The way up at size `i`: it reads what came from the size below, and what the way down kept.
    fn up(&mut self, weights: &Weights, layout: &Layout, i: usize) -> Result<UpBlock> {
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
        Ok(UpBlock {
            layers: self.layers(weights, &inputs, size, size.up_attention)?,
            upsampler: (i > 0).then(sampler).transpose()?,
        })
    }
}

#[derive(Debug)]
struct Layer {
    resnet: Resnet,
    attention: Option<Attention>,
}

impl Layer {
    fn forward(&self, x: &Tensor, known: &Known) -> Tensor {
        let x = self.resnet.forward(x, known);
        self.attention.as_ref().map_or_else(|| x.shallow_clone(), |attention| attention.forward(&x, known))
    }
}

#[derive(Debug)]
struct DownBlock {
    layers: Vec<Layer>,
    downsampler: Option<Conv2d>,
    padding: i64,
}

impl DownBlock {
    /// What every layer gives is kept for the way up.
    fn forward(&self, x: Tensor, known: &Known, kept: &mut Vec<Tensor>) -> Tensor {
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
struct MidBlock {
    first: Resnet,
    rest: Option<(Attention, Resnet)>,
}

impl MidBlock {
    fn forward(&self, x: &Tensor, known: &Known) -> Tensor {
        let x = self.first.forward(x, known);
        match &self.rest {
            Some((attention, second)) => second.forward(&attention.forward(&x, known), known),
            None => x,
        }
    }
}

#[derive(Debug)]
struct UpBlock {
    layers: Vec<Layer>,
    upsampler: Option<Conv2d>,
}

impl UpBlock {
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

/// The text as every attention and each of its layers reads it.
pub type Texts = Vec<Vec<Text>>;

/// What the denoiser reads besides the latents, worked out once for all steps.
#[derive(Debug)]
pub struct Conditioning {
    /// What each step adds within the resnets, one after another: [steps, channels of all resnets].
    pub times: Tensor,
    pub texts: Texts,
}

/// What is known at a step.
pub struct Known<'a> {
    /// [channels of all resnets]
    pub times: &'a Tensor,
    pub texts: &'a Texts,
}

/// The U-Net.
#[derive(Debug)]
pub struct Unet {
    conv_in: Conv2d,
    linear_1: Linear,
    linear_2: Linear,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    config: Config,
    kind: Kind,
}

impl Unet {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let layout = config.layout()?;
        let (count, first) = (layout.sizes.len(), layout.sizes[0].channels);
        let mut builder = Builder { config, times: 0, attentions: 0 };
        let (time, width) = (weights.at("time_embedding"), config.time_width());
        let (kernel_in, kernel_out) = (config.conv_in_kernel, config.conv_out_kernel);
        let (input, output) = (config.in_channels, config.out_channels);
        let conv = |name: &str, input, output, kernel: i64| -> Result<Conv2d> {
            let at = weights.at(name);
            Ok(Conv2d::new(&at, input, output, kernel, 1, kernel / 2)?.channels_last(&at))
        };
        let conv_in = conv("conv_in", input, first, kernel_in)?;
        let down = |i| builder.down(&weights.at("down_blocks").at(i), &layout, i);
        let down_blocks = (0..count).map(down).collect::<Result<_>>()?;
        let mid_block = builder.middle(&weights.at("mid_block"), &layout)?;
        let up = |i| builder.up(&weights.at("up_blocks").at(i), &layout, count - 1 - i);
        Ok(Self {
            conv_in,
            linear_1: Linear::new(&time.at("linear_1"), first, width)?,
            linear_2: Linear::new(&time.at("linear_2"), width, width)?,
            down_blocks,
            mid_block,
            up_blocks: (0..count).map(up).collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::new(
                &weights.at("conv_norm_out"),
                config.norm_num_groups,
                first,
                config.norm_eps,
            )?,
            conv_out: conv("conv_out", first, output, kernel_out)?,
            config: config.clone(),
            kind: weights.kind(),
        })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `text`: [batch, tokens, cross_attention_dim]; `timesteps`: all of them, in the order of the steps.
    pub fn condition(&self, text: &Tensor, timesteps: &[f64]) -> Conditioning {
        let text = text.to_kind(self.kind);
        let steps: Vec<f32> = timesteps.iter().map(|&time| time as f32).collect();
        let times = self.sinusoids(&Tensor::from_slice(&steps).to_device(text.device())).to_kind(self.kind);
        let times = self.linear_2.forward(&self.config.act_fn.apply(&self.linear_1.forward(&times)));
        let times = self.config.act_fn.apply(&times); // [steps, time_width]
        let read: Vec<Tensor> = self.resnets().iter().map(|resnet| resnet.read_times(&times)).collect();
        Conditioning {
            times: Tensor::cat(&read, 1),
            texts: self.attentions().iter().map(|attention| attention.transformer.read(&text)).collect(),
        }
    }

    /// The model's output at this step: latents [batch, in_channels, height, width] → the same with out_channels.
    pub fn forward(&self, latents: &Tensor, conditioning: &Conditioning, step: usize) -> Tensor {
        let Conditioning { times, texts } = conditioning;
        self.step(latents, &Known { times: &times.get(step as i64), texts })
    }

    /// The same of what is known at the step.
    pub fn step(&self, latents: &Tensor, known: &Known) -> Tensor {
        let latents = channels_last(latents);
        let mut x = if self.config.center_input_sample {
            self.conv_in.forward(&(latents * 2.0 - 1.0))
        } else {
            self.conv_in.forward(&latents)
        };
        let mut kept = vec![x.shallow_clone()];
        for block in &self.down_blocks {
            x = block.forward(x, known, &mut kept);
        }
        if let Some(block) = &self.mid_block {
            x = block.forward(&x, known);
        }
        for block in &self.up_blocks {
            x = block.forward(x, known, &mut kept);
        }
        self.conv_out.forward(&self.conv_norm_out.forward_activated(&DeferredBias::from(&x), self.config.act_fn))
    }

    fn layers(&self) -> (impl Iterator<Item = &Layer>, impl Iterator<Item = &Layer>) {
        let down = self.down_blocks.iter().flat_map(|block| &block.layers);
        (down, self.up_blocks.iter().flat_map(|block| &block.layers))
    }

    /// In the order of their places in [`Conditioning::times`].
    fn resnets(&self) -> Vec<&Resnet> {
        let (down, up) = self.layers();
        let middle = self
            .mid_block
            .iter()
            .flat_map(|block| std::iter::once(&block.first).chain(block.rest.as_ref().map(|(_, second)| second)));
        down.map(|layer| &layer.resnet).chain(middle).chain(up.map(|layer| &layer.resnet)).collect()
    }

    /// In the order of their slots.
    fn attentions(&self) -> Vec<&Attention> {
        let (down, up) = self.layers();
        let middle = self.mid_block.iter().filter_map(|block| block.rest.as_ref().map(|(attention, _)| attention));
        down.filter_map(|layer| layer.attention.as_ref())
            .chain(middle)
            .chain(up.filter_map(|layer| layer.attention.as_ref()))
            .collect()
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
