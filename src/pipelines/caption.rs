//! Photo → description.

use anyhow::Result;
use image::RgbImage;

use super::each;
use crate::models::{Caption, CaptionOptions, Captioner};

/// Describes each photo; they fail one by one.
pub fn describe(captioner: &dyn Captioner, photos: &[RgbImage], options: &CaptionOptions) -> Vec<Result<Caption>> {
    each(photos.len(), |range| captioner.caption(&photos[range], options))
}
