//! DINOv2 (Oquab et al. 2023, <https://arxiv.org/abs/2304.07193>): what a picture shows, learnt from pictures alone.
//!
//! Architecture: <https://github.com/huggingface/transformers/blob/main/src/transformers/models/dinov2/modeling_dinov2.py>

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tch::{Kind, Tensor, no_grad};

use crate::checkpoints::{Checkpoint, Weights, config};
use crate::error::usage;
use crate::models::needed_files::PROCESSOR;
use crate::models::vision::image_processor::ImageProcessor;
use crate::models::{Family, MetricNetTask, Task};
use crate::nn::{Activation, Conv2d, LayerNorm, Linear, attention, join_heads, split_heads};

/// How it is told, and which files it needs.
pub static FAMILY: Family = Family {
    model_types: &["dinov2"],
    files: |found, _| {
        found.any_of("", PROCESSOR);
        found.weights("", "model")
    },
    task: Task::Measure(MetricNetTask {
        in_artfid: false,
        verify: Some(|dir, rt| Dinov2::load(dir, rt.device, rt.kind(Kind::Float)).map(drop)),
    }),
    ..Family::metric_net("metric net DINOv2", &[], false)
};

/// `config.json`; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub hidden_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub mlp_ratio: i64,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    /// What it was trained on; pictures may have another size.
    pub image_size: i64,
    pub patch_size: i64,
    pub num_channels: i64,
    pub qkv_bias: bool,
    pub use_swiglu_ffn: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            mlp_ratio: 4,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-6,
            image_size: 224,
            patch_size: 14,
            num_channels: 3,
            qkv_bias: true,
            use_swiglu_ffn: false,
        }
    }
}

impl Config {
    fn check(&self, dir: &Path, (height, width): (i64, i64)) -> Result<()> {
        let fits = |side: i64| self.patch_size > 0 && side >= self.patch_size;
        if self.num_hidden_layers > 0
            && self.hidden_size % self.num_attention_heads.max(1) == 0
            && (1..=64).contains(&self.mlp_ratio)
            && [self.image_size, height, width].into_iter().all(fits)
        {
            return Ok(());
        }
        Err(usage(format!(
            "{}: a DINOv2 of {} layers, {} heads (num_attention_heads of hidden_size {}), mlp_ratio {}, and patches of {} \
             in pictures of {height}×{width} cannot be",
            dir.display(),
            self.num_hidden_layers,
            self.num_attention_heads,
            self.hidden_size,
            self.mlp_ratio,
            self.patch_size
        )))
    }
}

/// The feed-forward half of a layer.
#[derive(Debug)]
enum Mlp {
    Plain {
        fc1: Linear,
        fc2: Linear,
        act: Activation,
    },
    /// Gated, in the largest network.
    SwiGlu {
        weights_in: Linear,
        weights_out: Linear,
    },
}

impl Mlp {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let (size, inner) = (config.hidden_size, config.hidden_size * config.mlp_ratio);
        if !config.use_swiglu_ffn {
            let (fc1, fc2) =
                (Linear::new(&weights.at("fc1"), size, inner)?, Linear::new(&weights.at("fc2"), inner, size)?);
            return Ok(Self::Plain { fc1, fc2, act: config.hidden_act });
        }
        let inner = (inner * 2 / 3 + 7) / 8 * 8;
        Ok(Self::SwiGlu {
            weights_in: Linear::new(&weights.at("weights_in"), size, 2 * inner)?,
            weights_out: Linear::new(&weights.at("weights_out"), inner, size)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Plain { fc1, fc2, act } => fc2.forward(&act.apply(&fc1.forward(x))),
            Self::SwiGlu { weights_in, weights_out } => {
                let halves = weights_in.forward(x).chunk(2, -1);
                weights_out.forward(&(halves[0].silu() * &halves[1]))
            }
        }
    }
}

#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    layer_scale1: Tensor,
    norm2: LayerNorm,
    mlp: Mlp,
    layer_scale2: Tensor,
    heads: i64,
}

impl Layer {
    fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let (size, eps) = (config.hidden_size, config.layer_norm_eps);
        let inner = weights.at("attention.attention");
        let projection = |name: &str| {
            let new = if config.qkv_bias { Linear::new } else { Linear::without_bias };
            new(&inner.at(name), size, size)
        };
        Ok(Self {
            norm1: LayerNorm::new(&weights.at("norm1"), size, eps)?,
            query: projection("query")?,
            key: projection("key")?,
            value: projection("value")?,
            dense: Linear::new(&weights.at("attention.output.dense"), size, size)?,
            layer_scale1: weights.at("layer_scale1").get("lambda1", &[size])?,
            norm2: LayerNorm::new(&weights.at("norm2"), size, eps)?,
            mlp: Mlp::new(&weights.at("mlp"), config)?,
            layer_scale2: weights.at("layer_scale2").get("lambda1", &[size])?,
            heads: config.num_attention_heads,
        })
    }

    /// [batch, places, hidden] → the same
    fn forward(&self, x: &Tensor) -> Tensor {
        let normed = self.norm1.forward(x);
        let heads = |linear: &Linear| split_heads(&linear.forward(&normed), self.heads);
        let seen = attention(&heads(&self.query), &heads(&self.key), &heads(&self.value), None);
        let x = x + self.dense.forward(&join_heads(&seen)) * &self.layer_scale1;
        &x + self.mlp.forward(&self.norm2.forward(&x)) * &self.layer_scale2
    }
}

/// The network.
#[derive(Debug)]
pub struct Dinov2 {
    pub processor: ImageProcessor,
    cls_token: Tensor,
    /// Of the pictures that `processor` makes: [1, 1 + patches, hidden]
    position_embeddings: Tensor,
    projection: Conv2d,
    layers: Vec<Layer>,
    layernorm: LayerNorm,
    width: i64,
    kind: Kind,
}

impl Dinov2 {
    /// From a folder in the layout of transformers.
    pub fn load(dir: &Path, device: tch::Device, kind: Kind) -> Result<Self> {
        let file = dir.join("config.json");
        let config: Config = config::read(&file).with_context(|| file.display().to_string())?;
        let processor = ImageProcessor::load(dir)?;
        config.check(dir, processor.crop())?;
        let weights = Checkpoint::open_dir(dir, "model")?.weights(device, kind);
        weights.build(|weights| no_grad(|| Self::new(weights, &config, &processor)))
    }

    fn new(weights: &Weights, config: &Config, processor: &ImageProcessor) -> Result<Self> {
        let (size, patch, embeddings) = (config.hidden_size, config.patch_size, weights.at("embeddings"));
        // What stands for hidden patches in training.
        embeddings.at("mask_token").ignore();
        let side = config.image_size / patch;
        let positions = embeddings.with_kind(Kind::Float).get("position_embeddings", &[1, 1 + side * side, size])?;
        let (height, width) = processor.crop();
        let layer = |i| Layer::new(&weights.at("encoder.layer").at(i), config);
        Ok(Self {
            processor: processor.clone(),
            cls_token: embeddings.get("cls_token", &[1, 1, size])?,
            position_embeddings: resized(&positions, side, [height / patch, width / patch])?.to_kind(weights.kind()),
            projection: Conv2d::new(
                &embeddings.at("patch_embeddings.projection"),
                config.num_channels,
                size,
                patch,
                patch,
                0,
            )?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            layernorm: LayerNorm::new(&weights.at("layernorm"), size, config.layer_norm_eps)?,
            width: size,
            kind: weights.kind(),
        })
    }

    /// How many numbers describe a picture.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// What the class token ends as: [batch, 3, height, width] → [batch, width] in float32
    pub fn pictures(&self, pixels: &Tensor) -> Tensor {
        let patches = self.projection.forward(&pixels.to_kind(self.kind)).flatten(2, 3).transpose(1, 2);
        let class = self.cls_token.expand([patches.size()[0], 1, self.width], false);
        let x = Tensor::cat(&[class, patches], 1) + &self.position_embeddings;
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(&x));
        self.layernorm.forward(&x.select(1, 0)).to_kind(Kind::Float)
    }
}

/// Positions of side × side patches for pictures of other sides, [1, 1 + patches, hidden].
fn resized(positions: &Tensor, side: i64, [height, width]: [i64; 2]) -> Result<Tensor> {
    if (side, side) == (height, width) || positions.numel() == 0 {
        return Ok(positions.shallow_clone());
    }
    let size = positions.size();
    ensure!(size[1] == 1 + side * side, "{} positions are not those of {side}×{side} patches", size[1]);
    let (class, patches) = (positions.narrow(1, 0, 1), positions.narrow(1, 1, side * side));
    let square = patches.reshape([1, side, side, size[2]]).permute([0, 3, 1, 2]);
    let square = square.upsample_bicubic2d([height, width], false, None, None);
    Ok(Tensor::cat(&[class, square.permute([0, 2, 3, 1]).reshape([1, -1, size[2]])], 1))
}
