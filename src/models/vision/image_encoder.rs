//! CLIP's vision encoder with its projection, by itself: how IP-Adapters see pictures.
//!
//! Architecture: `CLIPVisionModelWithProjection` of
//! <https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/modeling_clip.py>

use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use serde::Deserialize;
use tch::{Device, Kind, Tensor, no_grad};

use super::clip_vision::{ClipVision, VisionConfig};
use super::image_processor::ImageProcessor;
use crate::checkpoints::{Checkpoint, Weights, config};
use crate::error::usage;
use crate::nn::Linear;

/// `config.json` of the encoder's folder.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    model_type: Option<String>,
    projection_dim: Option<i64>,
    #[serde(flatten)]
    vision: VisionConfig,
}

impl Config {
    /// From the encoder's folder.
    pub fn load(dir: &Path) -> Result<Self> {
        let file = dir.join("config.json");
        let config: Self = config::read(&file)?;
        match config.model_type.as_deref() {
            None | Some("clip_vision_model") => Ok(config),
            Some(other) => Err(usage(format!(
                "{}: a model of the type {other}: the encoder of pictures must be a clip_vision_model",
                file.display()
            ))),
        }
    }

    /// Numbers that describe a picture as a whole.
    pub fn projection(&self) -> i64 {
        self.projection_dim.unwrap_or(512)
    }

    /// Numbers that describe a place of a picture.
    pub fn hidden(&self) -> i64 {
        self.vision.hidden_size
    }
}

/// The encoder, and what feeds it.
#[derive(Debug)]
pub struct ImageEncoder {
    processor: ImageProcessor,
    vision_model: ClipVision,
    visual_projection: Linear,
    device: Device,
}

impl ImageEncoder {
    /// From a folder in the layout of transformers. Pictures are prepared by what lies in `extractor`, a pipeline's
    /// `feature_extractor`, where that fits the encoder, else as CLIP's are.
    pub fn load(dir: &Path, extractor: Option<&Path>, device: Device, kind: Kind) -> Result<Self> {
        let config = Config::load(dir)?;
        let side = config.vision.image_size;
        let given = extractor.map(ImageProcessor::load).transpose()?;
        let processor =
            given.filter(|given| given.crop() == (side, side)).unwrap_or_else(|| ImageProcessor::clip(side));
        config.vision.check(&format!("{}: an encoder of pictures", dir.display()), &processor)?;
        let weights = Checkpoint::open_dir(dir, "model")?.weights(device, kind);
        let built = weights.build(|weights| Self::new(weights, &config, processor.clone()));
        built.with_context(|| format!("the encoder of pictures {}", dir.display()))
    }

    /// One of this size with random weights: to measure speed.
    pub fn random(config: &Config, device: Device, kind: Kind) -> Result<Self> {
        Self::new(&Weights::random(device, kind), config, ImageProcessor::clip(config.vision.image_size))
    }

    fn new(weights: &Weights, config: &Config, processor: ImageProcessor) -> Result<Self> {
        no_grad(|| {
            let (hidden, projection) = (config.hidden(), config.projection());
            Ok(Self {
                processor,
                vision_model: ClipVision::new(&weights.at("vision_model"), &config.vision)?,
                visual_projection: Linear::without_bias(&weights.at("visual_projection"), hidden, projection)?,
                device: weights.device(),
            })
        })
    }

    /// Pictures of any size as the encoder reads them: float32 [batch, 3, side, side].
    pub fn pixels(&self, pictures: &[RgbImage]) -> Result<Tensor> {
        let prepared: Vec<RgbImage> =
            pictures.iter().map(|picture| self.processor.prepare(picture)).collect::<Result<_>>()?;
        let pixels = crate::images::batch_tensor(&prepared)?.to_device(self.device);
        Ok(self.processor.standardize(&pixels))
    }

    /// Each as a whole: [batch, 3, side, side] → [batch, projection]
    pub fn embed(&self, pixels: &Tensor) -> Tensor {
        self.visual_projection.forward(&self.vision_model.forward(pixels))
    }

    /// Each place by place, before the last layer: [batch, 3, side, side] → [batch, 1 + patches, hidden]
    pub fn places(&self, pixels: &Tensor) -> Tensor {
        self.vision_model.penultimate(pixels)
    }
}
