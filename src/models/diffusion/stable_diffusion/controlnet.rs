//! ControlNet (Zhang et al. 2023, <https://arxiv.org/abs/2302.05543>): a copy of the U-Net's way down that reads a picture,
//! of edges for example, and adds to what the U-Net's way up reads.
//!
//! Architecture: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/controlnets/controlnet.py>

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::unet::{self, Conditioning, Known, Residuals};
use super::unet_config::PerSize;
use super::unet_encoder::{Builder, Encoder};
use crate::checkpoints::{Checkpoint, Weights, config};
use crate::error::usage;
use crate::models::diffusion::pipeline_source::PipelineSource;
use crate::models::diffusion::single_file::ldm;
use crate::models::{AdapterTask, Checked, Family, Task, find, locate_controlnet};
use crate::nn::{Activation, Conv2d, channels_last};
use crate::runtime::Runtime;

const STEM: &str = "diffusion_pytorch_model";

/// How it is told and looked at.
pub static FAMILY: Family = Family {
    title: "ControlNet of Stable Diffusion",
    pipeline_classes: &[],
    model_types: &["ControlNetModel"],
    tensors: &[
        "control_model.input_hint_block.0.weight",
        "input_hint_block.0.weight",
        "controlnet_cond_embedding.conv_in.weight",
    ],
    is_file: |_, _| Ok(true),
    files: |found, _| found.weights("", STEM),
    task: Task::Adapt(AdapterTask { verify }),
};

/// A folder is built; an original file has no configuration to be held against.
fn verify(path: &Path, rt: &Runtime) -> Result<Checked> {
    if path.is_file() {
        return Ok(Checked { built: false, about: about(&Checkpoint::open(&[path])?) });
    }
    let files = ControlFiles::folder(path)?;
    files.config.check(&files.config.unet)?;
    let about = files.tensors.as_ref().and_then(about);
    files.build(rt.device, rt.kind(Kind::Float)).map(|_| Checked { built: true, about })
}

/// What it is for, from the width of the texts that it reads, in whichever layout it is.
fn about(tensors: &Checkpoint) -> Option<String> {
    let key = tensors.names().find(|name| name.ends_with("attn2.to_k.weight"))?;
    let width = *tensors.entry(key)?.shape.get(1)?;
    Some(format!(
        "it lets a picture (edges, lines) steer {}: `stylize --controlnet`, the key controlnet",
        drawn_by(width)
    ))
}

/// The generators whose texts have this width.
pub(super) fn drawn_by(text: i64) -> String {
    match text {
        768 => "Stable Diffusion 1".to_string(),
        1024 => "Stable Diffusion 2".to_string(),
        2048 => "Stable Diffusion XL, which is not known here".to_string(),
        other => format!("a Stable Diffusion whose texts have {other} numbers a token"),
    }
}

/// `config.json`; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub conditioning_channels: i64,
    /// `rgb` or `bgr`.
    pub controlnet_conditioning_channel_order: String,
    pub conditioning_embedding_out_channels: Vec<i64>,
    pub global_pool_conditions: bool,
    #[serde(flatten)]
    pub unet: unet::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            conditioning_channels: 3,
            controlnet_conditioning_channel_order: "rgb".to_string(),
            conditioning_embedding_out_channels: vec![16, 32, 96, 256],
            global_pool_conditions: false,
            unet: unet::Config::default(),
        }
    }
}

impl Config {
    fn check(&self, unet: &unet::Config) -> Result<()> {
        let order = self.controlnet_conditioning_channel_order.as_str();
        if self.conditioning_channels != 3 || !["rgb", "bgr"].contains(&order) || self.global_pool_conditions {
            return Err(usage(format!(
                "a ControlNet over {} channels in the order {order}, global_pool_conditions {}, is not known here: one over \
                 colour pictures (3 channels, rgb or bgr, false)",
                self.conditioning_channels, self.global_pool_conditions
            )));
        }
        if self.conditioning_embedding_out_channels.is_empty() {
            return Err(usage("conditioning_embedding_out_channels is empty"));
        }
        let (own, theirs) = (self.unet.layout()?, unet.layout()?);
        let sizes = |layout: &super::unet_config::Layout| {
            layout.sizes.iter().map(|size| (size.channels, size.layers, size.text)).collect::<Vec<_>>()
        };
        if sizes(&own) != sizes(&theirs) {
            return Err(usage(format!(
                "this ControlNet belongs to another U-Net: (channels, layers, width of the text) of its sizes are {:?}, and \
                 the model's are {:?}",
                sizes(&own),
                sizes(&theirs)
            )));
        }
        Ok(())
    }
}

/// A ControlNet's files, looked at and not yet read.
#[derive(Debug)]
pub struct ControlFiles {
    config: Config,
    /// None: random weights.
    tensors: Option<Checkpoint>,
}

impl ControlFiles {
    /// Those of the ControlNet that is called so, which must be here, made for this U-Net. That of random weights is random
    /// too, at the published size.
    pub fn open(name: &str, source: &PipelineSource, unet: &unet::Config) -> Result<Self> {
        if source.is_random() {
            find(name)?;
            return Ok(Self { config: Config { unet: unet.clone(), ..Config::default() }, tensors: None });
        }
        let path = locate_controlnet(name, true)?;
        let source = if path.is_dir() { Self::folder(&path) } else { Self::single_file(&path, unet) };
        let source = source.with_context(|| format!("ControlNet {}", path.display()))?;
        source.config.check(unet).map_err(|error| usage(format!("{}: {error:#}", path.display())))?;
        Ok(source)
    }

    fn folder(path: &Path) -> Result<Self> {
        let mut config: Config = config::read(&path.join("config.json"))?;
        // It has no way up.
        config.unet.up_block_types = vec!["UpBlock2D".to_string(); config.unet.block_out_channels.len()];
        Ok(Self { config, tensors: Some(Checkpoint::open_dir(path, STEM)?) })
    }

    /// The original layout has no configuration: it is that of the U-Net, of which the net is a copy.
    fn single_file(path: &Path, unet: &unet::Config) -> Result<Self> {
        let whole = Checkpoint::open(&[path])?;
        let prefixed = whole.names().any(|name| name.starts_with("control_model."));
        let tensors = if prefixed { whole.below("control_model")? } else { whole };
        let hint = |i: usize| tensors.entry(&format!("input_hint_block.{i}.weight")).map(|entry| entry.shape.clone());
        let channels: Vec<i64> = (0..).step_by(4).map_while(hint).filter_map(|shape| shape.first().copied()).collect();
        let PerSize::One(layers) = unet.layers_per_block else {
            return Err(usage("of a U-Net whose sizes have other numbers of layers there are no original files"));
        };
        if channels.is_empty() {
            return Err(usage(
                "no ControlNet in it (tensors called input_hint_block and zero_convs): a file of another kind?",
            ));
        }
        let last = 2 * (2 * channels.len() - 1);
        let tensors = tensors.convert(|name, entry| match name_of(name, last) {
            Some(name) => Ok(vec![(name, entry)]),
            None => ldm::unet(name, entry, layers),
        })?;
        let unet = unet::Config { center_input_sample: false, conv_in_kernel: 3, ..unet.clone() };
        Ok(Self {
            config: Config { conditioning_embedding_out_channels: channels, unet, ..Config::default() },
            tensors: Some(tensors),
        })
    }

    pub fn build(self, device: Device, kind: Kind) -> Result<ControlNet> {
        let Self { config, tensors } = self;
        let weights = tensors.map_or_else(|| Weights::random(device, kind), |tensors| tensors.weights(device, kind));
        weights.build(|weights| ControlNet::new(weights, &config))
    }
}

/// A tensor that the U-Net has not; `last` is the number of the last layer over the picture.
fn name_of(name: &str, last: usize) -> Option<String> {
    if let Some((at, rest)) = name.strip_prefix("zero_convs.").and_then(|rest| rest.split_once(".0.")) {
        return Some(format!("controlnet_down_blocks.{at}.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("middle_block_out.0.") {
        return Some(format!("controlnet_mid_block.{rest}"));
    }
    let (at, rest) = name.strip_prefix("input_hint_block.")?.split_once('.')?;
    let at: usize = at.parse().ok()?;
    Some(match at {
        0 => format!("controlnet_cond_embedding.conv_in.{rest}"),
        at if at == last => format!("controlnet_cond_embedding.conv_out.{rest}"),
        at => format!("controlnet_cond_embedding.blocks.{}.{rest}", (at / 2).checked_sub(1)?),
    })
}

/// The net.
#[derive(Debug)]
pub struct ControlNet {
    encoder: Encoder,
    /// Over the picture; each behind the first is activated before.
    cond_embedding: Vec<Conv2d>,
    down: Vec<Conv2d>,
    middle: Conv2d,
    is_bgr: bool,
}

impl ControlNet {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let layout = config.unet.layout()?;
        let mut builder = Builder { config: &config.unet, times: 0, attentions: 0 };
        let encoder = Encoder::new(weights, &layout, &mut builder)?;
        let conv = |at: &Weights, input, output, kernel: i64, stride| -> Result<Conv2d> {
            Ok(Conv2d::new(at, input, output, kernel, stride, kernel / 2)?.channels_last(at))
        };
        let (embedding, channels) =
            (weights.at("controlnet_cond_embedding"), &config.conditioning_embedding_out_channels);
        let mut cond_embedding = vec![conv(&embedding.at("conv_in"), config.conditioning_channels, channels[0], 3, 1)?];
        for (i, pair) in channels.windows(2).enumerate() {
            cond_embedding.push(conv(&embedding.at("blocks").at(2 * i), pair[0], pair[0], 3, 1)?);
            cond_embedding.push(conv(&embedding.at("blocks").at(2 * i + 1), pair[0], pair[1], 3, 2)?);
        }
        let (first, last) = (layout.sizes[0].channels, layout.sizes[layout.sizes.len() - 1].channels);
        cond_embedding.push(conv(&embedding.at("conv_out"), channels[channels.len() - 1], first, 3, 1)?);
        // The first of what the way up reads, and then that of each layer and each smaller size.
        let mut widths = vec![first];
        for (i, size) in layout.sizes.iter().enumerate() {
            widths.extend(vec![size.channels; size.layers + usize::from(i + 1 < layout.sizes.len())]);
        }
        let zero = |(i, width): (usize, &i64)| conv(&weights.at("controlnet_down_blocks").at(i), *width, *width, 1, 1);
        Ok(Self {
            encoder,
            cond_embedding,
            down: widths.iter().enumerate().map(zero).collect::<Result<_>>()?,
            middle: conv(&weights.at("controlnet_mid_block"), last, last, 1, 1)?,
            is_bgr: config.controlnet_conditioning_channel_order == "bgr",
        })
    }

    /// The picture as the net reads it, the same in all steps: [batch, 3, height, width] of 0 to 1 → [batch, first width,
    /// places of the latents].
    pub fn embed(&self, pictures: &Tensor) -> Tensor {
        let pictures = if self.is_bgr { pictures.flip([1]) } else { pictures.shallow_clone() };
        let mut x = channels_last(&pictures.to_kind(self.encoder.kind));
        for (i, conv) in self.cond_embedding.iter().enumerate() {
            x = conv.forward(&if i == 0 { x } else { Activation::Silu.apply(&x) });
        }
        x
    }

    /// As that of the U-Net.
    pub fn condition(&self, text: &Tensor, timesteps: &[f64]) -> Conditioning {
        self.encoder.condition(text, timesteps, &[])
    }

    /// What is added to the U-Net at a step, times `scale` `[1]`.
    pub fn step(&self, latents: &Tensor, known: &Known, hint: &Tensor, scale: &Tensor) -> Residuals {
        let (x, kept) = self.encoder.forward(latents, known, Some(hint));
        let down = self.down.iter().zip(&kept).map(|(conv, kept)| conv.forward(kept) * scale).collect();
        Residuals { down, middle: self.middle.forward(&x) * scale }
    }
}
