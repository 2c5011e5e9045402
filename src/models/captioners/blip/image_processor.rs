//! Photos → pixels for BLIP: resized (the aspect ratio is not kept), scaled and normalised.
//!
//! The resize is libtorch's antialiased bicubic filter on 8-bit pixels, which transformers'
//! processor uses through torchvision; Pillow's differs from it by a grey level here and there.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use image::RgbImage;
use rayon::prelude::*;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::checkpoints::config;
use crate::error::usage;
use crate::images;
use crate::models::Preprocess;
use crate::models::processor_config::image_processor;
use crate::runtime::{enter_pool_thread, upload};

/// The image processor's section; the defaults are those of transformers' `BlipImageProcessor`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ImageProcessor {
    do_resize: bool,
    size: Size,
    /// Pillow's number of the filter: 2 bilinear, 3 bicubic.
    resample: i64,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f64; 3],
    image_std: [f64; 3],
}

/// Old files hold one number for both sides.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Square(i64),
    Sides { height: i64, width: i64 },
}

impl Default for ImageProcessor {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: Size::Square(384),
            resample: 3,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.48145466, 0.4578275, 0.40821073],
            image_std: [0.26862954, 0.26130258, 0.27577711],
        }
    }
}

impl ImageProcessor {
    /// With transformers' defaults, for a network that reads pictures of `side` × `side`.
    pub fn of_side(side: i64) -> Self {
        Self { size: Size::Square(side), ..Self::default() }
    }

    /// Of a model folder whose network reads pictures of `side` × `side`.
    pub fn load(folder: &Path, side: i64) -> Result<Self> {
        let Some((file, section)) = image_processor(folder)? else {
            bail!("{}: neither preprocessor_config.json nor processor_config.json here", folder.display());
        };
        let processor: Self = config::take(section).with_context(|| file.display().to_string())?;
        if !processor.do_resize || ![2, 3].contains(&processor.resample) {
            return Err(usage(format!(
                "{}: only do_resize with resample 2 (bilinear) or 3 (bicubic) is known",
                file.display()
            )));
        }
        let (height, width) = processor.sides();
        if (height, width) != (side, side) {
            bail!("{}: size {height}x{width}, and the network's image_size is {side}", file.display());
        }
        Ok(processor)
    }

    /// Height and width of what the network sees.
    fn sides(&self) -> (i64, i64) {
        match self.size {
            Size::Square(side) => (side, side),
            Size::Sides { height, width } => (height, width),
        }
    }

    /// Pictures of any size → [batch, 3, height, width] on the device.
    pub fn forward(&self, pictures: &[RgbImage], device: Device, kind: Kind) -> Tensor {
        // On all cores.
        let resized: Vec<Tensor> = pictures.par_iter().map(|picture| self.resize(picture)).collect();
        self.normalise(&resized, device, kind)
    }

    /// Resized pictures, uint8 [1, 3, height, width] each → [batch, 3, height, width] on the device, where those that are not
    /// there yet travel with eight bits a channel.
    pub fn normalise(&self, resized: &[Tensor], device: Device, kind: Kind) -> Tensor {
        let rescale = self.do_rescale.then_some(self.rescale_factor);
        let normalize = self.do_normalize.then_some((self.image_mean, self.image_std));
        let there = |picture: &Tensor| match picture.device() == device {
            true => picture.shallow_clone(),
            false => upload(picture, device),
        };
        let resized: Vec<Tensor> = resized.iter().map(there).collect();
        images::standardize(&Tensor::cat(&resized, 0).contiguous(), rescale, normalize).to_kind(kind)
    }

    /// Resizes a photo, which [`Self::resize`] then leaves as it is.
    pub fn into_preprocess(self) -> Preprocess {
        Arc::new(move |picture| {
            // Each thread of the pool resizes a picture of its own.
            enter_pool_thread();
            images::from_tensor(&self.resize(&picture).squeeze_dim(0))
        })
    }

    /// The part that is done on the CPU: uint8 [1, 3, height, width], the channels last in memory: as pictures are decoded,
    /// and half as long to resize.
    pub fn resize(&self, picture: &RgbImage) -> Tensor {
        let (height, width) = self.sides();
        let pixels = images::interleaved_tensor(picture).unsqueeze(0);
        match self.resample {
            _ if (i64::from(picture.height()), i64::from(picture.width())) == (height, width) => pixels,
            2 => pixels.internal_upsample_bilinear2d_aa([height, width], false, None, None),
            _ => pixels.internal_upsample_bicubic2d_aa([height, width], false, None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_preprocessed_photo_is_not_resized_again() {
        for size in [Size::Square(48), Size::Sides { height: 40, width: 56 }] {
            for resample in [2, 3] {
                let processor = ImageProcessor { size, resample, ..ImageProcessor::default() };
                let (height, width) = processor.sides();
                for (w, h) in [(113, 37), (width as u32, height as u32), (1, 200), (width as u32, 11)] {
                    let photo =
                        RgbImage::from_fn(w, h, |x, y| Rgb([(x * 7 + y * y) as u8, (x * y) as u8, (y * 31) as u8]));
                    let resized = processor.resize(&photo);
                    let small = processor.clone().into_preprocess()(photo).unwrap();
                    assert_eq!((small.width(), small.height()), (width as u32, height as u32));
                    assert!(processor.resize(&small).equal(&resized), "{w}×{h}, {resample}");
                }
            }
        }
    }
}
