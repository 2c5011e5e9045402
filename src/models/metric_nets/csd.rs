//! CSD, contrastive style descriptors (Somepalli et al. 2024, <https://arxiv.org/abs/2404.01292>): the style of a picture
//! as a point, in the style head of a CLIP vision encoder that learnt to tell styles.
//!
//! Architecture and published checkpoint: <https://github.com/learn2phoenix/CSD> (`CSD/model.py`). Its file names tensors as
//! OpenAI's CLIP does (`backbone.transformer.resblocks.…`), below `model_state_dict.` and `module.` where training wrote it.
//! Every size is that of the tensors.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor, no_grad};

use super::clip::unit;
use crate::checkpoints::{Checkpoint, Entry, Weights};
use crate::models::vision::clip_vision::{ClipVision, VisionConfig};
use crate::models::vision::image_processor::ImageProcessor;
use crate::models::{Family, MetricNetTask, Task};
use crate::nn::Activation;

/// Heads of OpenAI's encoders are as wide as this.
const HEAD: i64 = 64;

/// The tensor that only this network has.
const STYLE_HEAD: &str = "last_layer_style";

/// It under what may stand before the names, as a bare state dict and as training have it.
const TENSORS: &[&str] = &[
    STYLE_HEAD,
    "module.last_layer_style",
    "model_state_dict.last_layer_style",
    "model_state_dict.module.last_layer_style",
];

/// How it is told.
pub static FAMILY: Family =
    Family {
        task: Task::Measure(MetricNetTask {
            in_artfid: false,
            // Of a folder the files were checked.
            verify: Some(|path, rt| {
                if path.is_file() { Csd::load(path, rt.device, rt.kind(Kind::Float)).map(drop) } else { Ok(()) }
            }),
        }),
        ..Family::metric_net("metric net CSD", TENSORS, false)
    };

/// What stands before the names in a checkpoint of this network; None in any other.
fn prefix(checkpoint: &Checkpoint) -> Option<&'static str> {
    let head = TENSORS.iter().find(|name| checkpoint.entry(name).is_some())?;
    head.strip_suffix(STYLE_HEAD)
}

/// The network.
#[derive(Debug)]
pub struct Csd {
    pub processor: ImageProcessor,
    vision_model: ClipVision,
    /// [hidden, width]
    last_layer_style: Tensor,
}

impl Csd {
    /// From the published file, or one like it.
    pub fn load(file: &Path, device: Device, kind: Kind) -> Result<Self> {
        let shown = file.display();
        let checkpoint = Checkpoint::open(&[file])?;
        let prefix = prefix(&checkpoint).with_context(|| format!("{shown}: no tensor {STYLE_HEAD}, which CSD has"))?;
        let checkpoint = checkpoint.convert(|name, entry| match name.strip_prefix(prefix) {
            Some(name) => converted(name, entry),
            // The optimizer's state, and what else training kept.
            None => Ok(Vec::new()),
        })?;
        let (config, width) = sizes(&checkpoint).with_context(|| format!("CSD from {shown}"))?;
        let processor = ImageProcessor::openai(config.image_size);
        config.check(&format!("{shown}: a vision encoder"), &processor)?;
        let weights = checkpoint.weights(device, kind);
        weights.build(|weights| no_grad(|| Self::new(weights, &config, width, &processor)))
    }

    fn new(weights: &Weights, config: &VisionConfig, width: i64, processor: &ImageProcessor) -> Result<Self> {
        Ok(Self {
            processor: processor.clone(),
            vision_model: ClipVision::new(&weights.at("vision_model"), config)?,
            last_layer_style: weights.get(STYLE_HEAD, &[config.hidden_size, width])?,
        })
    }

    /// How many numbers describe a style.
    pub fn width(&self) -> i64 {
        self.last_layer_style.size()[1]
    }

    /// [batch, 3, side, side] → the style of each, [batch, width], of unit length.
    pub fn styles(&self, pixels: &Tensor) -> Tensor {
        unit(&self.vision_model.forward(pixels).matmul(&self.last_layer_style))
    }
}

/// A tensor under the names that transformers gives it.
fn converted(name: &str, entry: Entry) -> Result<Vec<(String, Entry)>> {
    if name == STYLE_HEAD {
        return Ok(vec![(name.to_string(), entry)]);
    }
    // The other head describes the content; training states of another model stand beside it at most.
    let Some(name) = name.strip_prefix("backbone.") else { return Ok(Vec::new()) };
    let at = |name: String| format!("vision_model.{name}");
    let Some((number, rest)) = name.strip_prefix("transformer.resblocks.").and_then(|rest| rest.split_once('.')) else {
        let (part, leaf) = name.split_once('.').unwrap_or((name, ""));
        let name = match part {
            "class_embedding" => "embeddings.class_embedding".to_string(),
            "positional_embedding" => "embeddings.position_embedding.weight".to_string(),
            "conv1" => format!("embeddings.patch_embedding.{leaf}"),
            "ln_pre" => format!("pre_layrnorm.{leaf}"),
            "ln_post" => format!("post_layernorm.{leaf}"),
            _ => name.to_string(),
        };
        return Ok(vec![(at(name), entry)]);
    };
    let layer = |name: String| at(format!("encoder.layers.{number}.{name}"));
    if let Some(leaf) = rest.strip_prefix("attn.in_proj_") {
        let part =
            |(part, name): (usize, &str)| Ok((layer(format!("self_attn.{name}_proj.{leaf}")), entry.rows(part, 3)?));
        return ["q", "k", "v"].into_iter().enumerate().map(part).collect();
    }
    let (part, leaf) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let part = match part {
        "attn.out_proj" => "self_attn.out_proj",
        "ln_1" => "layer_norm1",
        "ln_2" => "layer_norm2",
        "mlp.c_fc" => "mlp.fc1",
        "mlp.c_proj" => "mlp.fc2",
        other => other,
    };
    Ok(vec![(layer(format!("{part}.{leaf}")), entry)])
}

/// The encoder's sizes and the width of the style head, as the tensors have them.
fn sizes(checkpoint: &Checkpoint) -> Result<(VisionConfig, i64)> {
    let shape = |name: &str| match checkpoint.entry(name) {
        Some(entry) => Ok(entry.shape.clone()),
        None => bail!("tensor {name} is missing"),
    };
    let patches = shape("vision_model.embeddings.patch_embedding.weight")?;
    let places = shape("vision_model.embeddings.position_embedding.weight")?;
    let inner = shape("vision_model.encoder.layers.0.mlp.fc1.weight")?;
    let head = shape(STYLE_HEAD)?;
    let ([hidden, channels, patch, _], [places, _], [inner, _], [_, width]) =
        (&patches[..], &places[..], &inner[..], &head[..])
    else {
        bail!("patches {patches:?}, places {places:?}, layers {inner:?} and head {head:?} are of no vision encoder");
    };
    let side = ((places - 1).max(0) as f64).sqrt().round() as i64;
    ensure!(side > 0 && side * side + 1 == *places, "{places} places (positional_embedding) are of no square picture");
    ensure!(hidden % HEAD == 0 && *hidden > 0, "a width of {hidden} is not made of heads of {HEAD}");
    let is_layer = |name: &&str| name.starts_with("vision_model.encoder.layers.") && name.ends_with(".mlp.fc1.weight");
    let config = VisionConfig {
        hidden_size: *hidden,
        intermediate_size: *inner,
        num_hidden_layers: checkpoint.names().filter(is_layer).count(),
        num_attention_heads: hidden / HEAD,
        num_channels: *channels,
        image_size: side * patch,
        patch_size: *patch,
        hidden_act: Activation::QuickGelu,
        layer_norm_eps: 1e-5,
    };
    Ok((config, *width))
}
