//! Prompt (and photo) → picture; photo → prompt in a style.

use anyhow::{Context, Result};
use image::RgbImage;

use super::each;
use crate::models::{Caption, CaptionOptions, Captioner, GenerateRequest, Generated, Generator};
use crate::prompts::{Composed, TokenBudget};

/// Draws each picture of a request; they fail one by one.
pub fn draw(generator: &dyn Generator, request: &GenerateRequest) -> Vec<Result<Generated>> {
    each(request.prompts.len(), |range| {
        let images = if request.images.is_empty() { Vec::new() } else { request.images[range.clone()].to_vec() };
        generator.generate(&GenerateRequest {
            prompts: request.prompts[range.clone()].to_vec(),
            seeds: request.seeds[range].to_vec(),
            images,
            ..request.clone()
        })
    })
}

/// Describes one photo and adds a style: what a generator of this budget is to draw.
pub fn describe_in_style(
    captioner: &dyn Captioner,
    photo: &RgbImage,
    options: &CaptionOptions,
    budget: &TokenBudget,
    style: &str,
) -> Result<(Caption, Composed)> {
    let captions = captioner.caption(std::slice::from_ref(photo), options)?;
    let caption = captions.into_iter().next().context("the captioner said nothing")?;
    let composed = budget.compose(&caption.text, style)?;
    Ok((caption, composed))
}
