//! The safety checker: CLIP's vision encoder, and concepts that a picture must not be near to.
//!
//! Source: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/pipelines/stable_diffusion/safety_checker.py>

use std::path::Path;

use anyhow::{Context, Result, bail};
use image::RgbImage;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::checkpoints::{Weights, config};
use crate::error::usage;
use crate::images;
use crate::models::processor_config::image_processor;
use crate::models::text::clip_layer::{Layer, Sizes};
use crate::nn::{Activation, Conv2d, LayerNorm, Linear};

/// What a concept's threshold is lowered by once a concept of special care was found.
const SPECIAL_CARE: f32 = 0.01;

/// `vision_config` of `safety_checker/config.json`; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub num_channels: i64,
    pub image_size: i64,
    pub patch_size: i64,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

/// `safety_checker/config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub vision_config: Option<VisionConfig>,
    /// The name in the first releases.
    pub vision_config_dict: Option<VisionConfig>,
    pub projection_dim: Option<i64>,
}

/// The image processor of the folder `feature_extractor`; the defaults are those of transformers' `CLIPImageProcessor`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct FeatureExtractor {
    do_resize: bool,
    size: Size,
    resample: i64,
    do_center_crop: bool,
    crop_size: Size,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f64; 3],
    image_std: [f64; 3],
}

/// Old files hold one number: of the size the shortest side, of the crop both.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    One(i64),
    Shortest { shortest_edge: i64 },
    Sides { height: i64, width: i64 },
}

impl Default for FeatureExtractor {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: Size::One(224),
            resample: 3,
            do_center_crop: true,
            crop_size: Size::One(224),
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.48145466, 0.4578275, 0.40821073],
            image_std: [0.26862954, 0.26130258, 0.27577711],
        }
    }
}

impl FeatureExtractor {
    fn load(folder: &Path) -> Result<Self> {
        let Some((file, section)) = image_processor(folder)? else {
            bail!("{}: neither preprocessor_config.json nor processor_config.json here", folder.display());
        };
        let extractor: Self = config::take(section).with_context(|| file.display().to_string())?;
        if !extractor.do_resize || !extractor.do_center_crop || extractor.resample != 3 {
            return Err(usage(format!(
                "{}: only do_resize with resample 3 (bicubic) and do_center_crop are known",
                file.display()
            )));
        }
        Ok(extractor)
    }

    /// Height and width that are cut out.
    fn crop(&self) -> (i64, i64) {
        match self.crop_size {
            Size::One(side) | Size::Shortest { shortest_edge: side } => (side, side),
            Size::Sides { height, width } => (height, width),
        }
    }

    /// Pictures of any size → float32 [batch, 3, height, width] on the device.
    fn forward(&self, pictures: &[RgbImage], device: Device) -> Tensor {
        let cut: Vec<Tensor> = pictures.iter().map(|picture| self.cut(picture)).collect();
        let rescale = self.do_rescale.then_some(self.rescale_factor);
        let normalize = self.do_normalize.then_some((self.image_mean, self.image_std));
        images::standardize(&Tensor::cat(&cut, 0).to_device(device), rescale, normalize)
    }

    /// The middle of the resized picture, with black where it is too small: uint8 [1, 3, height, width].
    fn cut(&self, picture: &RgbImage) -> Tensor {
        let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
        let (to_height, to_width) = match self.size {
            Size::Sides { height, width } => (height, width),
            Size::One(side) | Size::Shortest { shortest_edge: side } => {
                let long = (side as f64 * width.max(height) as f64 / width.min(height) as f64) as i64;
                if width <= height { (long, side) } else { (side, long) }
            }
        };
        let pixels = images::to_tensor(picture).unsqueeze(0);
        let pixels = pixels.internal_upsample_bicubic2d_aa([to_height, to_width], false, None, None);
        let (crop_height, crop_width) = self.crop();
        let (down, across) = ((crop_height - to_height).max(0), (crop_width - to_width).max(0));
        let pixels = pixels.constant_pad_nd([across / 2, (across + 1) / 2, down / 2, (down + 1) / 2]);
        let (top, left) = ((to_height + down - crop_height) / 2, (to_width + across - crop_width) / 2);
        pixels.narrow(2, top, crop_height).narrow(3, left, crop_width)
    }
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
    extractor: FeatureExtractor,
    class_embedding: Tensor,
    patch_embedding: Conv2d,
    position_embedding: Tensor,
    pre_layrnorm: LayerNorm,
    layers: Vec<Layer>,
    post_layernorm: LayerNorm,
    visual_projection: Linear,
    special_care: Concepts,
    concepts: Concepts,
    device: Device,
    kind: Kind,
}

impl SafetyChecker {
    /// `extractor`: the folder of `preprocessor_config.json`.
    pub fn new(weights: &Weights, config: &Config, extractor: &Path) -> Result<Self> {
        let vision = config.vision_config.clone().or(config.vision_config_dict.clone()).unwrap_or_default();
        let extractor = FeatureExtractor::load(extractor)?;
        if vision.num_hidden_layers == 0
            || vision.hidden_size % vision.num_attention_heads.max(1) != 0
            || vision.patch_size < 1
            || extractor.crop() != (vision.image_size, vision.image_size)
        {
            return Err(usage(format!(
                "the safety checker's encoder of {} layers, {} heads (num_attention_heads of hidden_size) and pictures \
                 of {} (image_size) cannot be, or is fed pictures of {:?} (crop_size)",
                vision.num_hidden_layers,
                vision.num_attention_heads,
                vision.image_size,
                extractor.crop()
            )));
        }
        // CLIP's vision encoder lies one deeper in files of before transformers 5.
        let outer = weights.at("vision_model");
        let inner = outer.at("vision_model");
        let at = if inner.contains("embeddings.class_embedding") { inner } else { outer };
        let (size, eps, embeddings) = (vision.hidden_size, vision.layer_norm_eps, at.at("embeddings"));
        let places = (vision.image_size / vision.patch_size).pow(2) + 1;
        let sizes = Sizes {
            hidden: size,
            intermediate: vision.intermediate_size,
            heads: vision.num_attention_heads,
            act: vision.hidden_act,
            eps,
            causal: false,
        };
        let layer = |i| Layer::new(&at.at("encoder.layers").at(i), &sizes);
        let projection = config.projection_dim.unwrap_or(512);
        Ok(Self {
            extractor,
            class_embedding: embeddings.get("class_embedding", &[size])?,
            patch_embedding: Conv2d::without_bias(
                &embeddings.at("patch_embedding"),
                vision.num_channels,
                size,
                vision.patch_size,
                vision.patch_size,
                0,
            )?,
            position_embedding: embeddings.at("position_embedding").get("weight", &[places, size])?,
            pre_layrnorm: LayerNorm::new(&at.at("pre_layrnorm"), size, eps)?,
            layers: (0..vision.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            post_layernorm: LayerNorm::new(&at.at("post_layernorm"), size, eps)?,
            visual_projection: Linear::without_bias(&weights.at("visual_projection"), size, projection)?,
            special_care: Concepts::new(weights, "special_care_embeds", projection)?,
            concepts: Concepts::new(weights, "concept_embeds", projection)?,
            device: weights.device(),
            kind: weights.kind(),
        })
    }

    /// Pictures of any size as the encoder reads them: float32 [batch, 3, side, side].
    pub fn pixels(&self, pictures: &[RgbImage]) -> Tensor {
        self.extractor.forward(pictures, self.device)
    }

    /// [batch, 3, side, side] → [batch, projection]
    pub fn embed(&self, pixels: &Tensor) -> Tensor {
        let patches = self.patch_embedding.forward(&pixels.to_kind(self.kind)).flatten(2, 3).transpose(1, 2);
        let size = patches.size();
        let class = self.class_embedding.expand([size[0], 1, size[2]], false);
        let x = Tensor::cat(&[class, patches], 1) + &self.position_embedding;
        let x = self.layers.iter().fold(self.pre_layrnorm.forward(&x), |x, layer| layer.forward(&x));
        self.visual_projection.forward(&self.post_layernorm.forward(&x.select(1, 0)))
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
