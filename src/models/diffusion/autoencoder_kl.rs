//! The variational autoencoder of Stable Diffusion: pictures ↔ latents.
//!
//! Architecture: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/autoencoders/autoencoder_kl.py>

use anyhow::Result;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::checkpoints::Weights;
use crate::error::usage;
use crate::nn::{
    Activation, Conv2d, DeferredBias, GroupNorm, Linear, ResnetBlock, ResnetStyle, attention, channels_last,
    from_tokens, fused, to_tokens, upsample_nearest,
};

/// Every group norm of the autoencoder.
const EPS: f64 = 1e-6;
/// More sizes than any autoencoder has: each halves the sides of a picture.
const MOST_SIZES: usize = 16;
/// Pixels encoded or decoded at a time: the largest layers of the autoencoder take about 2 kB for each.
const PIXELS: i64 = 2 << 20;

/// `vae/config.json`; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub in_channels: i64,
    pub out_channels: i64,
    pub down_block_types: Vec<String>,
    pub up_block_types: Vec<String>,
    pub block_out_channels: Vec<i64>,
    pub layers_per_block: usize,
    pub act_fn: Activation,
    pub latent_channels: i64,
    pub norm_num_groups: i64,
    pub scaling_factor: f64,
    pub shift_factor: Option<f64>,
    /// Whether it must run in float32; None = the file does not say.
    pub force_upcast: Option<bool>,
    pub use_quant_conv: bool,
    pub use_post_quant_conv: bool,
    pub mid_block_add_attention: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".to_string()],
            up_block_types: vec!["UpDecoderBlock2D".to_string()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: Activation::Silu,
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            force_upcast: None,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

impl Config {
    /// Pixels of a picture for each place of a latent, along one side.
    pub fn scale_factor(&self) -> i64 {
        // More is refused when the model is built.
        1 << (self.block_out_channels.len().clamp(1, MOST_SIZES) - 1)
    }

    fn check(&self) -> Result<()> {
        let count = self.block_out_channels.len();
        if count > MOST_SIZES {
            return Err(usage(format!(
                "the autoencoder's block_out_channels has {count} sizes: more than {MOST_SIZES} are not known here"
            )));
        }
        let plain = self.down_block_types.iter().all(|kind| kind == "DownEncoderBlock2D")
            && self.up_block_types.iter().all(|kind| kind == "UpDecoderBlock2D");
        if count == 0 || self.down_block_types.len() != count || self.up_block_types.len() != count || !plain {
            return Err(usage(format!(
                "the autoencoder's blocks are {:?} and {:?} over {count} sizes: \
                 one DownEncoderBlock2D and one UpDecoderBlock2D for each size are known here",
                self.down_block_types, self.up_block_types
            )));
        }
        if self.norm_num_groups < 1 || self.block_out_channels.iter().any(|n| n % self.norm_num_groups != 0) {
            return Err(usage(format!(
                "the autoencoder's sizes {:?} (block_out_channels) cannot be normalised in {} groups (norm_num_groups)",
                self.block_out_channels, self.norm_num_groups
            )));
        }
        Ok(())
    }
}

/// A resnet of the autoencoder, which knows no time.
fn resnet(weights: &Weights, input: i64, output: i64, config: &Config) -> Result<ResnetBlock> {
    ResnetBlock::new(
        weights,
        input,
        output,
        ResnetStyle { groups: config.norm_num_groups, eps: EPS, act: config.act_fn },
    )
}

/// A convolution of 3 × 3 places.
fn conv(weights: &Weights, input: i64, output: i64, stride: i64, padding: i64) -> Result<Conv2d> {
    Ok(Conv2d::new(weights, input, output, 3, stride, padding)?.channels_last(weights))
}

/// Attention of one head over all places of a picture.
#[derive(Debug)]
struct AttentionBlock {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl AttentionBlock {
    fn new(weights: &Weights, channels: i64, config: &Config) -> Result<Self> {
        // Files written before diffusers 0.14 have other names.
        let old = weights.contains("query.weight");
        let linear = |new_name: &str, old_name: &str| {
            Linear::new(&weights.at(if old { old_name } else { new_name }), channels, channels)
        };
        Ok(Self {
            group_norm: GroupNorm::new(&weights.at("group_norm"), config.norm_num_groups, channels, EPS)?,
            to_q: linear("to_q", "query")?,
            to_k: linear("to_k", "key")?,
            to_v: linear("to_v", "value")?,
            to_out: linear("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let places = to_tokens(&self.group_norm.forward(x)); // [batch, places, channels]
        let head = |linear: &Linear| linear.forward(&places).unsqueeze(1); // [batch, 1, places, channels]
        let out = attention(&head(&self.to_q), &head(&self.to_k), &head(&self.to_v), None).squeeze_dim(1);
        from_tokens(&self.to_out.forward(&out), &x.size()) + x
    }
}

#[derive(Debug)]
struct MidBlock {
    first: ResnetBlock,
    attention: Option<AttentionBlock>,
    second: ResnetBlock,
}

impl MidBlock {
    fn new(weights: &Weights, channels: i64, config: &Config) -> Result<Self> {
        let attention = || AttentionBlock::new(&weights.at("attentions.0"), channels, config);
        Ok(Self {
            first: resnet(&weights.at("resnets.0"), channels, channels, config)?,
            attention: config.mid_block_add_attention.then(attention).transpose()?,
            second: resnet(&weights.at("resnets.1"), channels, channels, config)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.first.forward(x, None);
        let x = self.attention.as_ref().map_or_else(|| x.shallow_clone(), |attention| attention.forward(&x));
        self.second.forward(&x, None)
    }
}

/// Resnets at one size, then a convolution to the next size.
#[derive(Debug)]
struct SizeBlock {
    resnets: Vec<ResnetBlock>,
    /// `downsamplers.0` or `upsamplers.0`; none in the last block.
    sampler: Option<Conv2d>,
}

impl SizeBlock {
    fn resnets(weights: &Weights, input: i64, output: i64, count: usize, config: &Config) -> Result<Vec<ResnetBlock>> {
        (0..count)
            .map(|i| resnet(&weights.at("resnets").at(i), if i == 0 { input } else { output }, output, config))
            .collect()
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.resnets.iter().fold(x.shallow_clone(), |x, resnet| resnet.forward(&x, None))
    }
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<SizeBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    act: Activation,
}

impl Encoder {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let sizes = &config.block_out_channels;
        let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
        let mut down_blocks = Vec::new();
        for (i, &output) in sizes.iter().enumerate() {
            let at = weights.at("down_blocks").at(i);
            let input = sizes[i.saturating_sub(1)];
            let down = || conv(&at.at("downsamplers.0.conv"), output, output, 2, 0);
            down_blocks.push(SizeBlock {
                resnets: SizeBlock::resnets(&at, input, output, config.layers_per_block, config)?,
                sampler: (i + 1 < sizes.len()).then(down).transpose()?,
            });
        }
        Ok(Self {
            conv_in: conv(&weights.at("conv_in"), config.in_channels, first, 1, 1)?,
            down_blocks,
            mid_block: MidBlock::new(&weights.at("mid_block"), last, config)?,
            conv_norm_out: GroupNorm::new(&weights.at("conv_norm_out"), config.norm_num_groups, last, EPS)?,
            conv_out: conv(&weights.at("conv_out"), last, 2 * config.latent_channels, 1, 1)?,
            act: config.act_fn,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = self.conv_in.forward(x);
        for block in &self.down_blocks {
            x = block.forward(&x);
            if let Some(conv) = &block.sampler {
                // Padded on the right and below only.
                x = conv.forward(&x.constant_pad_nd([0, 1, 0, 1]));
            }
        }
        let x = DeferredBias::from(&self.mid_block.forward(&x));
        self.conv_out.forward(&self.conv_norm_out.forward_activated(&x, self.act))
    }
}

#[derive(Debug)]
struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<SizeBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    act: Activation,
}

impl Decoder {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let sizes: Vec<i64> = config.block_out_channels.iter().rev().copied().collect();
        let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
        let mut up_blocks = Vec::new();
        for (i, &output) in sizes.iter().enumerate() {
            let at = weights.at("up_blocks").at(i);
            let input = sizes[i.saturating_sub(1)];
            let up = || conv(&at.at("upsamplers.0.conv"), output, output, 1, 1);
            up_blocks.push(SizeBlock {
                resnets: SizeBlock::resnets(&at, input, output, config.layers_per_block + 1, config)?,
                sampler: (i + 1 < sizes.len()).then(up).transpose()?,
            });
        }
        Ok(Self {
            conv_in: conv(&weights.at("conv_in"), config.latent_channels, first, 1, 1)?,
            mid_block: MidBlock::new(&weights.at("mid_block"), first, config)?,
            up_blocks,
            conv_norm_out: GroupNorm::new(&weights.at("conv_norm_out"), config.norm_num_groups, last, EPS)?,
            conv_out: conv(&weights.at("conv_out"), last, config.out_channels, 1, 1)?,
            act: config.act_fn,
        })
    }

    fn forward(&self, z: &Tensor) -> Tensor {
        let mut x = self.mid_block.forward(&self.conv_in.forward(z));
        for block in &self.up_blocks {
            x = block.forward(&x);
            if let Some(conv) = &block.sampler {
                let (height, width) = (x.size()[2], x.size()[3]);
                x = conv.forward(&upsample_nearest(&x, [2 * height, 2 * width]));
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward_activated(&DeferredBias::from(&x), self.act))
    }
}

/// The distribution of a picture's latents.
#[derive(Debug)]
pub struct Posterior {
    /// [batch, latent channels, height, width]
    pub mean: Tensor,
    /// Standard deviation, of the same shape.
    pub deviation: Tensor,
}

impl Posterior {
    /// A draw; `noise` is standard normal, of the same shape.
    pub fn sample(&self, noise: &Tensor) -> Tensor {
        &self.mean + &self.deviation * noise
    }
}

/// The autoencoder.
#[derive(Debug)]
pub struct AutoencoderKl {
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    config: Config,
}

impl AutoencoderKl {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        config.check()?;
        let latent = config.latent_channels;
        let quant = || Conv2d::new(&weights.at("quant_conv"), 2 * latent, 2 * latent, 1, 1, 0);
        let post_quant = || Conv2d::new(&weights.at("post_quant_conv"), latent, latent, 1, 1, 0);
        Ok(Self {
            encoder: Encoder::new(&weights.at("encoder"), config)?,
            decoder: Decoder::new(&weights.at("decoder"), config)?,
            quant_conv: config.use_quant_conv.then(quant).transpose()?,
            post_quant_conv: config.use_post_quant_conv.then(post_quant).transpose()?,
            config: config.clone(),
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Pictures [batch, 3, height, width] in -1 to 1 → their unscaled latents.
    pub fn encode(&self, pictures: &Tensor) -> Posterior {
        let moments = self.encoder.forward(&channels_last(pictures));
        let moments = self.quant_conv.as_ref().map_or_else(|| moments.shallow_clone(), |conv| conv.forward(&moments));
        let parts = moments.chunk(2, 1);
        let deviation = (parts[1].clamp(-30.0, 20.0) * 0.5).exp();
        Posterior { mean: parts[0].shallow_clone(), deviation }
    }

    /// Photos of so many pixels that are encoded together: some in 16 bits on CUDA, elsewhere one, whose numbers
    /// then do not depend on the photos beside it.
    pub fn photos_at_a_time(&self, pixels: i64) -> i64 {
        if self.encoder.conv_in.bias().is_some_and(fused::fits) { (PIXELS / pixels.max(1)).max(1) } else { 1 }
    }

    /// Unscaled latents → pictures [batch, 3, height, width], about -1 to 1.
    pub fn decode(&self, latents: &Tensor) -> Tensor {
        let latents = channels_last(latents);
        match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(&conv.forward(&latents)),
            None => self.decoder.forward(&latents),
        }
    }

    /// The pictures of the denoiser's latents, and whether each is all numbers, on the device: uint8 [batch, 3,
    /// height, width] and bool `[batch]`. `kind` is that of the weights.
    pub fn pictures(&self, latents: &Tensor, kind: Kind) -> (Tensor, Tensor) {
        let scale = self.config.scale_factor();
        let pixels = latents.size()[2] * latents.size()[3] * scale * scale;
        let at_a_time = (PIXELS / pixels.max(1)).max(1);
        let (mut pictures, mut finite) = (Vec::new(), Vec::new());
        for part in latents.split(at_a_time, 0) {
            let decoded = self.decode(&self.unscale(&part.to_kind(kind))).to_kind(Kind::Float);
            finite.push(decoded.isfinite().flatten(1, 3).all_dim(1, false));
            pictures.push((((decoded * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round()).to_kind(Kind::Uint8));
        }
        (Tensor::cat(&pictures, 0), Tensor::cat(&finite, 0))
    }

    /// From the autoencoder's latents to those that the denoiser works on.
    pub fn scale(&self, latents: &Tensor) -> Tensor {
        (latents - self.config.shift_factor.unwrap_or(0.0)) * self.config.scaling_factor
    }

    /// The way back of [`Self::scale`].
    pub fn unscale(&self, latents: &Tensor) -> Tensor {
        latents / self.config.scaling_factor + self.config.shift_factor.unwrap_or(0.0)
    }
}
