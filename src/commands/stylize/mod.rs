//! `toolkit stylize`.

mod sheet;
mod work;

use anyhow::{Context, Result};

use self::work::{Work, remark, request};
use crate::cli::{Global, StylizeArgs};
use crate::commands::print::say;
use crate::error::{Outcome, usage};
use crate::models::{CaptionOptions, load_captioner, load_generator, load_token_budget};
use crate::prompts::TokenBudget;
use crate::runtime::{Runtime, log_peak_memory};
use crate::{images, pipelines};

pub fn run(args: StylizeArgs, global: &Global) -> Result<Outcome> {
    let rt = Runtime::new(global)?;
    images::check_name(&args.out)?;
    if !args.strength.is_empty() && args.image.is_none() && args.photo.is_none() {
        return Err(usage("--strength needs a photo to start from: --image FILE, or --photo FILE"));
    }
    let several = [("--strength", args.strength.len()), ("--seed", args.seed.len()), ("--style", args.style.len())];
    if let Some((option, count)) = several.into_iter().find(|(_, count)| *count > 1 && !args.contact_sheet) {
        return Err(usage(format!("{count} times {option} draws several pictures: add --contact-sheet")));
    }
    let work = if args.photo.is_some() { described(&args, &rt)? } else { given(&args)? };
    let generator = load_generator(&args.model, &rt)?;
    for prompt in &work.prompts {
        warn_if_cut(generator.token_budget(), prompt)?;
    }
    let (picture, outcome) = if args.contact_sheet {
        sheet::draw(&args, &work, generator.as_ref())?
    } else {
        let request = request(&args, &work, args.strength.first().copied(), &[(0, args.seed[0])]);
        let drawn = generator.generate(&request)?.into_iter().next().context("the generator drew nothing")?;
        remark(&drawn);
        (drawn.image, Outcome::Done)
    };
    log_peak_memory(rt.device);
    images::save(&picture, &args.out)?;
    say!("{}", args.out.display());
    Ok(outcome)
}

fn warn_if_cut(budget: &TokenBudget, prompt: &str) -> Result<()> {
    let (tokens, limit) = (budget.count(prompt)?, budget.limit());
    if tokens > limit {
        tracing::warn!("the prompt has {tokens} tokens and CLIP reads {limit}: its end does not count there");
    }
    Ok(())
}

fn given(args: &StylizeArgs) -> Result<Work> {
    let photo = args.image.as_ref().map(images::load).transpose()?;
    Ok(Work { prompts: vec![args.prompt.clone().unwrap_or_default()], photo })
}

/// The prompts of the whole way. The captioner leaves the memory before the generator comes.
fn described(args: &StylizeArgs, rt: &Runtime) -> Result<Work> {
    let describe = args.describe.as_deref().unwrap_or_default();
    let photo = args.photo.as_ref().map(images::load).transpose()?.context("no photo to describe")?;
    let budget = load_token_budget(&args.model, rt)?;
    // A style that is too long is said before a model is loaded.
    for style in &args.style {
        budget.compose("", style)?;
    }
    let options = CaptionOptions { prompt: args.instruction.clone(), max_new_tokens: None, num_beams: 1 };
    let captioner = load_captioner(describe, rt)?;
    let caption = pipelines::describe_one(captioner.as_ref(), &photo, &options)?;
    say!("description: {}", caption.text);
    let mut prompts = Vec::new();
    for style in &args.style {
        let composed = budget.compose(&caption.text, style)?;
        say!("prompt: {}", composed.prompt);
        if !composed.dropped.is_empty() {
            say!("dropped: {}", composed.dropped);
        }
        prompts.push(composed.prompt);
    }
    Ok(Work { prompts, photo: Some(photo) })
}
