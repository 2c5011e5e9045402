//! What decoders give, as a picture.

use anyhow::{Context, Result};
use image::RgbImage;

/// `pixels` is [height, width, 3].
pub(super) fn from_raw(width: u32, height: u32, pixels: Vec<u8>) -> Result<RgbImage> {
    RgbImage::from_raw(width, height, pixels).context("the decoder gave fewer pixels than the header says")
}
