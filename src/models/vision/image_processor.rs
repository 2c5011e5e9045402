//! The preparation of pictures that CLIP and DINOv2 share: the shorter side to a size, bicubic, and the middle cut out.
//!
//! Source: <https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/image_processing_clip.py>

use std::path::Path;

use anyhow::{Context, Result, bail};
use image::RgbImage;
use serde::Deserialize;
use tch::{Device, Tensor};

use crate::checkpoints::config;
use crate::error::usage;
use crate::images::{self, Filter, resize};
use crate::models::processor_config::image_processor;

/// `preprocessor_config.json`; the defaults are those of transformers' `CLIPImageProcessor`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ImageProcessor {
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
    /// As OpenAI's own transform does it, with Pillow and torchvision: pixels are rounded otherwise, and of an odd
    /// remainder the middle is taken otherwise.
    #[serde(skip)]
    with_pillow: bool,
}

/// Old files hold one number: of the size the shortest side, of the crop both.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    One(i64),
    Shortest { shortest_edge: i64 },
    Sides { height: i64, width: i64 },
}

impl Default for ImageProcessor {
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
            with_pillow: false,
        }
    }
}

impl ImageProcessor {
    /// From the folder of a model, or of its processor alone.
    pub fn load(folder: &Path) -> Result<Self> {
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
    pub fn crop(&self) -> (i64, i64) {
        match self.crop_size {
            Size::One(side) | Size::Shortest { shortest_edge: side } => (side, side),
            Size::Sides { height, width } => (height, width),
        }
    }

    /// Pictures of any size → float32 [batch, 3, height, width] on the device.
    pub fn forward(&self, pictures: &[RgbImage], device: Device) -> Tensor {
        let cut: Vec<Tensor> = pictures.iter().map(|picture| self.cut(picture)).collect();
        self.standardize(&Tensor::cat(&cut, 0).to_device(device))
    }

    /// A picture of any size as the network sees it, but for the numbers: resized and cut.
    pub fn prepare(&self, picture: &RgbImage) -> Result<RgbImage> {
        let (width, height) = (u64::from(picture.width()), u64::from(picture.height()));
        if let Size::One(side) | Size::Shortest { shortest_edge: side } = self.size
            && (side as u64).pow(2) * width.max(height) / width.min(height).max(1) > images::MAX_PIXELS
        {
            bail!("a picture of {width}×{height} is too narrow to be seen with its shorter side at {side}");
        }
        if self.with_pillow {
            return Ok(self.cut_with_pillow(picture));
        }
        images::from_tensor(&self.cut(picture).squeeze_dim(0))
    }

    /// Prepared pictures [batch, 3, height, width] with values from 0 to 255 → what the network reads, in float32.
    pub fn standardize(&self, pixels: &Tensor) -> Tensor {
        let rescale = self.do_rescale.then_some(self.rescale_factor);
        images::standardize(pixels, rescale, self.do_normalize.then_some((self.image_mean, self.image_std)))
    }

    /// That of transformers for CLIP, for pictures of this side.
    pub fn clip(side: i64) -> Self {
        Self { size: Size::One(side), crop_size: Size::One(side), ..Self::default() }
    }

    /// OpenAI's own for CLIP, for pictures of this side.
    pub fn openai(side: i64) -> Self {
        Self { size: Size::One(side), crop_size: Size::One(side), with_pillow: true, ..Self::default() }
    }

    /// Height and width that a picture is resized to.
    fn target(&self, picture: &RgbImage) -> (i64, i64) {
        let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
        match self.size {
            Size::Sides { height, width } => (height, width),
            Size::One(side) | Size::Shortest { shortest_edge: side } => {
                let long = (side as f64 * width.max(height) as f64 / width.min(height) as f64) as i64;
                if width <= height { (long, side) } else { (side, long) }
            }
        }
    }

    /// [`Self::cut`] as Pillow and torchvision do it, of a size that is at least the crop's.
    fn cut_with_pillow(&self, picture: &RgbImage) -> RgbImage {
        let ((to_height, to_width), (height, width)) = (self.target(picture), self.crop());
        let resized = resize(picture, to_width as u32, to_height as u32, Filter::Bicubic);
        let middle = |all: i64, kept: i64| (((all - kept) as f64) / 2.0).round_ties_even() as u32;
        let (left, top) = (middle(to_width, width), middle(to_height, height));
        image::imageops::crop_imm(&resized, left, top, width as u32, height as u32).to_image()
    }

    /// The middle of the resized picture, with black where it is too small: uint8 [1, 3, height, width].
    fn cut(&self, picture: &RgbImage) -> Tensor {
        let (to_height, to_width) = self.target(picture);
        let pixels = images::to_tensor(picture).unsqueeze(0);
        let pixels = pixels.internal_upsample_bicubic2d_aa([to_height, to_width], false, None, None);
        let (crop_height, crop_width) = self.crop();
        let (down, across) = ((crop_height - to_height).max(0), (crop_width - to_width).max(0));
        let pixels = pixels.constant_pad_nd([across / 2, (across + 1) / 2, down / 2, (down + 1) / 2]);
        let (top, left) = ((to_height + down - crop_height) / 2, (to_width + across - crop_width) / 2);
        pixels.narrow(2, top, crop_height).narrow(3, left, crop_width)
    }
}
