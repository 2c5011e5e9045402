//! Prompt (and photo) → picture.

use anyhow::Result;

use super::each;
use crate::models::{GenerateRequest, Generated, Generator};

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
