//! Prompt (and photo) → picture; photo → description.

use anyhow::{Context, Result};
use image::RgbImage;

use super::each;
use crate::models::{Caption, CaptionOptions, Captioner, GenerateRequest, Generated, Generator};

/// Draws each picture of a request; they fail one by one.
pub fn draw(generator: &dyn Generator, request: &GenerateRequest) -> Vec<Result<Generated>> {
    each(request.prompts.len(), |range| generator.generate(&request.only(&range.collect::<Vec<_>>())))
}

/// Describes one photo.
pub fn describe_one(captioner: &dyn Captioner, photo: &RgbImage, options: &CaptionOptions) -> Result<Caption> {
    let captions = captioner.caption(std::slice::from_ref(photo), options)?;
    captions.into_iter().next().context("the captioner said nothing")
}
