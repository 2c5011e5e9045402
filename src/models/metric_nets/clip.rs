//! CLIP (Radford et al. 2021): pictures and texts as points of one space.
//!
//! Architecture: <https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/modeling_clip.py>

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor, no_grad};

use crate::checkpoints::{Checkpoint, Weights, config};
use crate::models::needed_files::{CLIP_TOKENIZER, PROCESSOR};
use crate::models::text::clip_text::{self, ClipText};
use crate::models::text::text_tokenizer::TextTokenizer;
use crate::models::vision::clip_vision::{ClipVision, VisionConfig};
use crate::models::vision::image_processor::ImageProcessor;
use crate::models::{Family, MetricNetTask, Task};
use crate::nn::Linear;

/// How it is told, and which files it needs.
pub static FAMILY: Family = Family {
    model_types: &["clip"],
    files: |found, _| {
        found.any_of("", PROCESSOR);
        found.any_of("", CLIP_TOKENIZER);
        found.weights("", "model")
    },
    task: Task::Measure(MetricNetTask {
        in_artfid: false,
        verify: Some(|dir, rt| Clip::load(dir, rt.device, rt.kind(Kind::Float)).map(drop)),
    }),
    ..Family::metric_net("metric net CLIP", &[], false)
};

/// `config.json` of a CLIP folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    text_config: clip_text::Config,
    vision_config: VisionConfig,
    projection_dim: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self { text_config: Default::default(), vision_config: VisionConfig::default(), projection_dim: 512 }
    }
}

impl Config {
    fn load(file: &Path) -> Result<Self> {
        let mut json: Value = config::read(file)?;
        for section in ["text_config", "vision_config"] {
            // Of early files these say what counts; later ones have a null there.
            let early = json[format!("{section}_dict")].take();
            match (early, &mut json[section]) {
                (Value::Object(early), Value::Object(own)) => own.extend(early),
                (Value::Object(early), own) => *own = early.into(),
                (_, own) if own.is_null() => *own = Value::Object(Default::default()),
                _ => {}
            }
        }
        let mut config: Self = config::take(json).with_context(|| file.display().to_string())?;
        config.text_config.projection_dim = config.projection_dim;
        Ok(config)
    }
}

/// The two encoders with their projections, and what feeds them.
#[derive(Debug)]
pub struct Clip {
    pub processor: ImageProcessor,
    tokenizer: TextTokenizer,
    text_model: ClipText,
    vision_model: ClipVision,
    visual_projection: Linear,
    device: Device,
    width: i64,
}

impl Clip {
    /// From a folder in the layout of transformers.
    pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<Self> {
        let config = Config::load(&dir.join("config.json"))?;
        let processor = ImageProcessor::load(dir)?;
        config.vision_config.check(&format!("{}: a vision encoder", dir.display()), &processor)?;
        let tokenizer = TextTokenizer::clip(dir, config.text_config.max_position_embeddings as usize)?;
        let weights = Checkpoint::open_dir(dir, "model")?.weights(device, kind);
        weights.build(|weights| no_grad(|| Self::new(weights, &config, processor.clone(), tokenizer.clone())))
    }

    fn new(weights: &Weights, config: &Config, processor: ImageProcessor, tokenizer: TextTokenizer) -> Result<Self> {
        // The temperature serves training only.
        weights.at("logit_scale").ignore();
        Ok(Self {
            processor,
            tokenizer,
            text_model: ClipText::new(weights, &config.text_config, true)?,
            vision_model: ClipVision::new(&weights.at("vision_model"), &config.vision_config)?,
            visual_projection: Linear::without_bias(
                &weights.at("visual_projection"),
                config.vision_config.hidden_size,
                config.projection_dim,
            )?,
            device: weights.device(),
            width: config.projection_dim,
        })
    }

    /// How many numbers describe a picture or a text.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// Pictures as [`ImageProcessor::standardize`] gives them, [batch, 3, side, side] → [batch, width], of unit length.
    pub fn pictures(&self, pixels: &Tensor) -> Tensor {
        unit(&self.visual_projection.forward(&self.vision_model.forward(pixels)))
    }

    /// Texts, each cut at the encoder's limit → [texts, width], of unit length.
    pub fn texts(&self, texts: &[String]) -> Result<Tensor> {
        let ids = texts.iter().map(|text| self.tokenizer.encode(text)).collect::<Result<Vec<_>>>()?.concat();
        let ids = Tensor::from_slice(&ids).view([texts.len() as i64, -1]).to_device(self.device);
        Ok(unit(&self.text_model.forward(&ids).pooled))
    }
}

/// In float32, each row of length 1.
pub(super) fn unit(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    &x / x.norm_scalaropt_dim(2.0, [-1i64], true).clamp_min(1e-12)
}
