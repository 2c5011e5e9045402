//! Photo → description.

use anyhow::Result;
use image::RgbImage;

use super::each;
use crate::models::{Caption, CaptionOptions, Captioner};

/// The bounds of [`captions_at_once`], and the batches between them: few enough pictures that several devices end together
/// and that little is lost with a process, enough that the device is seldom without work.
const SMALLEST_BATCH: usize = 64;
const LARGEST_BATCH: usize = 512;
const BATCHES: usize = 4;

/// Pictures that a captioner is given at once on a GPU, of so many in all; it divides them as its memory allows. The number
/// follows from theirs alone, so that results do not depend on who describes them.
pub fn captions_at_once(pictures: usize) -> usize {
    pictures.div_ceil(BATCHES).clamp(SMALLEST_BATCH, LARGEST_BATCH)
}

/// Describes each photo; they fail one by one.
pub fn describe(captioner: &dyn Captioner, photos: &[RgbImage], options: &CaptionOptions) -> Vec<Result<Caption>> {
    each(photos.len(), |range| captioner.caption(&photos[range], options))
}
