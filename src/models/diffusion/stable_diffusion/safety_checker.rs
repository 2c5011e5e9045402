//! The safety checker: CLIP's vision encoder, and concepts that a picture must not be near to.
//!
//! Source: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/pipelines/stable_diffusion/safety_checker.py>

use std::path::Path;

use anyhow::Result;
use image::RgbImage;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::checkpoints::Weights;
use crate::models::vision::clip_vision::{ClipVision, VisionConfig};
use crate::models::vision::image_processor::ImageProcessor;
use crate::nn::Linear;

/// What a concept's threshold is lowered by once a concept of special care was found.
const SPECIAL_CARE: f32 = 0.01;

/// `safety_checker/config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub vision_config: Option<VisionConfig>,
    /// The name in the first releases.
    pub vision_config_dict: Option<VisionConfig>,
    pub projection_dim: Option<i64>,
}

/// Concepts as CLIP sees them, and how near a picture may come to each.
#[derive(Debug)]
struct Concepts {
    embeds: Tensor, // [concepts, projection], of unit length
    thresholds: Vec<f32>,
}

impl Concepts {
    fn new(weights: &Weights, name: &str, width: i64) -> Result<Self> {
        let thresholds_name = format!("{name}_weights");
        let count = weights.shape(name).and_then(|shape| shape.first().copied()).unwrap_or(0);
        let embeds = weights.get(name, &[count, width])?;
        let thresholds = weights.with_kind(Kind::Float).get(&thresholds_name, &[count])?;
        Ok(Self { embeds: unit(&embeds), thresholds: Vec::try_from(&thresholds)? })
    }

    /// The cosine between each picture and each concept, in float32: [pictures, concepts].
    fn near(&self, pictures: &Tensor) -> Tensor {
        unit(pictures).matmul(&self.embeds.transpose(0, 1)).to_kind(Kind::Float)
    }
}

fn unit(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2.0, [-1i64], true).clamp_min(1e-12)
}

/// To three decimals, as numpy rounds.
fn rounded(x: f32) -> f32 {
    (x * 1000.0).round_ties_even() / 1000.0
}

/// Whether a picture comes too near to a concept; concepts of special care lower the thresholds of all after them.
fn objects((special, special_thresholds): (&[f32], &[f32]), (near, thresholds): (&[f32], &[f32])) -> bool {
    let mut adjustment = 0.0;
    for (cosine, threshold) in special.iter().zip(special_thresholds) {
        if rounded(cosine - threshold + adjustment) > 0.0 {
            adjustment = SPECIAL_CARE;
        }
    }
    near.iter().zip(thresholds).any(|(cosine, threshold)| rounded(cosine - threshold + adjustment) > 0.0)
}

/// The safety checker.
#[derive(Debug)]
pub struct SafetyChecker {
    extractor: ImageProcessor,
    vision_model: ClipVision,
    visual_projection: Linear,
    special_care: Concepts,
    concepts: Concepts,
    device: Device,
}

impl SafetyChecker {
    /// `extractor`: the folder of `preprocessor_config.json`.
    pub fn new(weights: &Weights, config: &Config, extractor: &Path) -> Result<Self> {
        let vision = config.vision_config.clone().or(config.vision_config_dict.clone()).unwrap_or_default();
        let extractor = ImageProcessor::load(extractor)?;
        vision.check("the safety checker's encoder", &extractor)?;
        // CLIP's vision encoder lies one deeper in files of before transformers 5.
        let outer = weights.at("vision_model");
        let inner = outer.at("vision_model");
        let at = if inner.contains("embeddings.class_embedding") { inner } else { outer };
        let projection = config.projection_dim.unwrap_or(512);
        Ok(Self {
            extractor,
            vision_model: ClipVision::new(&at, &vision)?,
            visual_projection: Linear::without_bias(&weights.at("visual_projection"), vision.hidden_size, projection)?,
            special_care: Concepts::new(weights, "special_care_embeds", projection)?,
            concepts: Concepts::new(weights, "concept_embeds", projection)?,
            device: weights.device(),
        })
    }

    /// Pictures of any size as the encoder reads them: float32 [batch, 3, side, side].
    pub fn pixels(&self, pictures: &[RgbImage]) -> Tensor {
        self.extractor.forward(pictures, self.device)
    }

    /// [batch, 3, side, side] → [batch, projection]
    pub fn embed(&self, pixels: &Tensor) -> Tensor {
        self.visual_projection.forward(&self.vision_model.forward(pixels))
    }

    /// The cosines to the concepts of special care and to the others: [batch, concepts] each.
    pub fn scores(&self, embeds: &Tensor) -> (Tensor, Tensor) {
        (self.special_care.near(embeds), self.concepts.near(embeds))
    }

    /// Which of these embeddings come too near to a concept.
    pub fn decide(&self, embeds: &Tensor) -> Result<Vec<bool>> {
        let (special, near) = self.scores(embeds);
        let (special, near) = (Vec::<Vec<f32>>::try_from(&special)?, Vec::<Vec<f32>>::try_from(&near)?);
        let decide = |(special, near): (&Vec<f32>, &Vec<f32>)| {
            objects((special, &self.special_care.thresholds), (near, &self.concepts.thresholds))
        };
        Ok(special.iter().zip(&near).map(decide).collect())
    }

    /// Which of these pictures the checker objects to.
    pub fn check(&self, pictures: &[RgbImage]) -> Result<Vec<bool>> {
        self.decide(&self.embed(&self.pixels(pictures)))
    }
}
