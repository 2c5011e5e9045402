//! `toolkit stylize`.

use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;

use crate::cli::{Global, StylizeArgs};
use crate::error::{Outcome, usage};
use crate::models::{CaptionOptions, GenerateRequest, load_captioner, load_generator, load_token_budget};
use crate::runtime::Runtime;
use crate::{images, pipelines};

pub fn run(args: StylizeArgs, global: &Global) -> Result<Outcome> {
    let rt = Runtime::new(global)?;
    images::check_name(&args.out)?;
    if args.strength.is_some() && args.image.is_none() && args.photo.is_none() {
        return Err(usage("--strength needs a photo to start from: --image FILE, or --photo FILE"));
    }
    let (prompt, start) = match &args.photo {
        Some(photo) => described(&args, photo, &rt)?,
        None => (args.prompt.clone().unwrap_or_default(), args.image.as_ref().map(images::load).transpose()?),
    };
    let generator = load_generator(&args.model, &rt)?;
    let (tokens, limit) = (generator.token_budget().count(&prompt)?, generator.token_budget().limit());
    if tokens > limit {
        tracing::warn!("the prompt has {tokens} tokens and CLIP reads {limit}: its end does not count there");
    }
    let request = GenerateRequest {
        prompts: vec![prompt],
        negative_prompt: args.negative_prompt.clone(),
        seeds: vec![args.seed],
        steps: args.steps,
        guidance_scale: args.guidance_scale,
        width: args.width,
        height: args.height,
        images: start.into_iter().collect(),
        strength: args.strength,
        scheduler: args.scheduler,
        safety_checker: args.safety_checker,
    };
    let drawn = generator.generate(&request)?.into_iter().next().context("the generator drew nothing")?;
    if let Some(remark) = &drawn.remark {
        tracing::warn!("{remark}");
    }
    images::save(&drawn.image, &args.out)?;
    println!("{}", args.out.display());
    Ok(Outcome::Done)
}

/// The prompt of the whole way, and the photo to start from where a strength is given. The captioner
/// leaves the memory before the generator comes.
fn described(args: &StylizeArgs, photo: &Path, rt: &Runtime) -> Result<(String, Option<RgbImage>)> {
    let (describe, style) = (args.describe.as_deref().unwrap_or_default(), args.style.as_deref().unwrap_or_default());
    let photo = images::load(photo)?;
    let budget = load_token_budget(&args.model, rt)?;
    // A style that is too long is said before a model is loaded.
    budget.compose("", style)?;
    let options = CaptionOptions { prompt: args.instruction.clone(), max_new_tokens: None, num_beams: 1 };
    let captioner = load_captioner(describe, rt)?;
    let (caption, composed) = pipelines::describe_in_style(captioner.as_ref(), &photo, &options, &budget, style)?;
    println!("description: {}", caption.text);
    println!("prompt: {}", composed.prompt);
    if !composed.dropped.is_empty() {
        println!("dropped: {}", composed.dropped);
    }
    Ok((composed.prompt, args.strength.map(|_| photo)))
}
