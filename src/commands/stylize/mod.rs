//! `toolkit stylize`.

mod again;
mod fitting;
mod sheet;
mod work;

use anyhow::{Context, Result};

use self::fitting::{Fitted, path_of, say_if_squeezed};
use self::work::{ControlSource, Work, remark, request, write};
use crate::cli::{Global, StylizeArgs};
use crate::commands::print::say;
use crate::commands::team::{first_and_second, share_guidance};
use crate::error::{Outcome, usage};
use crate::experiment::models::{Captioners, OnThisMachine};
use crate::images::ControlMap;
use crate::models::{
    CaptionOptions, GenerateRequest, Settled, begin_generator, check_captions, load_captioner, load_outline,
    load_token_budget, locate, locate_controlnet, locate_ip_adapter, locate_lora, split_weight,
};
use crate::pipelines::{FileOrigin, Origin, Recipe};
use crate::prompts::TokenBudget;
use crate::runtime::{Runtime, check_writable, log_moment, log_peak_memory};
use crate::{images, pipelines};

pub fn run(args: StylizeArgs, global: &Global) -> Result<Outcome> {
    images::check_name(&args.out)?;
    check_writable(&args.out)?;
    if let Some(from) = &args.from {
        return again::run(from, &args, global);
    }
    let (rt, second) = first_and_second(global)?;
    if !args.strength.is_empty() && args.image.is_none() && args.photo.is_none() {
        return Err(usage("--strength needs a photo to start from: --image FILE, or --photo FILE"));
    }
    if args.fit.is_some() && args.image.is_none() && args.photo.is_none() {
        return Err(usage("--fit is about a photo: --image FILE, or --photo FILE"));
    }
    let several = [("--strength", args.strength.len()), ("--seed", args.seed.len()), ("--style", args.style.len())];
    if let Some((option, count)) = several.into_iter().find(|(_, count)| *count > 1 && !args.contact_sheet) {
        return Err(usage(format!("{count} times {option} draws several pictures: add --contact-sheet")));
    }
    let photo = args.image.as_ref().or(args.photo.as_ref()).map(images::load).transpose()?;
    let fitted = Fitted::new(&args, photo, || load_outline(model(&args), &rt))?;
    let control = control(&args)?;
    let mut work = Work { prompts: vec![args.prompt.clone().unwrap_or_default()], fitted, control };
    bring(&args, &rt)?;
    check(&args, &work, &rt)?;
    log_moment("the request is checked");
    if args.photo.is_some() {
        work.prompts = described(&args, &work, &rt)?;
    }
    let mut generator = begin_generator(model(&args), &rt)?;
    let first = request(&args, &work, args.strength.first().copied(), &[(0, args.seed[0])]);
    let settled = generator.settled(&first, 0)?;
    say_if_squeezed(&args, work.fitted.photo.as_ref(), &settled);
    share_guidance(generator.as_mut(), second, settled.guidance_scale)?;
    for prompt in &work.prompts {
        warn_if_cut(generator.token_budget(), prompt)?;
    }
    let (picture, outcome, texts) = if args.contact_sheet {
        let (picture, outcome) = sheet::draw(&args, &work, generator.as_ref())?;
        (picture, outcome, Vec::new())
    } else {
        let drawn = generator.generate(&first)?.into_iter().next().context("the generator drew nothing")?;
        remark(&drawn);
        let path = locate(model(&args), &rt)?.path;
        let origin = Origin::new(model(&args), &path, OnThisMachine::new(rt).place(), &first)?;
        (drawn.image, Outcome::Done, recipe(&args, &work, &first, &settled, &origin)?.texts()?)
    };
    log_peak_memory(rt.device);
    log_moment("the picture's recipe is written");
    write(&picture, &texts, generator, &args.out)?;
    say!("{}", args.out.display());
    Ok(outcome)
}

/// What the picture was drawn from, with the files that it read.
fn recipe(
    args: &StylizeArgs,
    work: &Work,
    request: &GenerateRequest,
    settled: &Settled,
    origin: &Origin,
) -> Result<Recipe> {
    let is_read = settled.strength.is_some() || matches!(work.control, Some(ControlSource::Photo(_)));
    let photo = is_read.then(|| FileOrigin::of("", path_of(args))).transpose()?;
    let photo = photo.map(|photo| (photo, args.fit.unwrap_or_default()));
    let mut recipe = Recipe::of(request, 0, settled, origin, photo);
    if let (Some(control), Some(ControlSource::Picture(_)), Some(file)) =
        (&mut recipe.control, &work.control, &args.control_image)
    {
        control.image = Some(FileOrigin::of("", file)?);
    }
    Ok(recipe)
}

/// The model; without one there is a picture to draw again.
fn model(args: &StylizeArgs) -> &str {
    args.model.as_deref().unwrap_or_default()
}

/// What a ControlNet reads: what is computed of the photo, or the picture that was given.
fn control(args: &StylizeArgs) -> Result<Option<ControlSource>> {
    let given = match (&args.controlnet, &args.control_image) {
        (None, None) => return Ok(None),
        (Some(_), Some(given)) => given,
        (Some(_), None) => {
            return Err(usage(
                "--controlnet needs something to read: --control-image FILE, or canny or lineart of a photo",
            ));
        }
        (None, Some(_)) => return Err(usage("--control-image needs what reads it: --controlnet MODEL")),
    };
    match given.to_str().and_then(|name| name.parse::<ControlMap>().ok()) {
        Some(map) if args.image.is_none() && args.photo.is_none() => {
            Err(usage(format!("--control-image {map} needs a photo to be computed of: --image FILE, or --photo FILE")))
        }
        Some(map) => Ok(Some(ControlSource::Photo(map))),
        None => Ok(Some(ControlSource::Picture(images::load(given)?))),
    }
}

fn warn_if_cut(budget: &TokenBudget, prompt: &str) -> Result<()> {
    let (tokens, limit) = (budget.count(prompt)?, budget.limit());
    if tokens > limit {
        tracing::warn!("the prompt has {tokens} tokens and CLIP reads {limit}: its end does not count there");
    }
    Ok(())
}

/// Downloads what is named on the hub and is not here yet.
fn bring(args: &StylizeArgs, rt: &Runtime) -> Result<()> {
    for text in &args.lora {
        locate_lora(split_weight(text).0, rt.offline)?;
    }
    if let Some(name) = &args.ip_adapter {
        locate_ip_adapter(&name.to_string_lossy(), rt.offline)?;
    }
    args.controlnet.iter().try_for_each(|name| locate_controlnet(name, rt.offline).map(drop))
}

/// What can be known to be wrong before a model is loaded.
fn check(args: &StylizeArgs, work: &Work, rt: &Runtime) -> Result<()> {
    let outline = load_outline(model(args), rt)?;
    let strengths =
        if args.strength.is_empty() { vec![None] } else { args.strength.iter().copied().map(Some).collect() };
    for strength in strengths {
        outline.check(&request(args, work, strength, &[(0, args.seed[0])]))?;
    }
    if let Some(captioner) = &args.describe {
        check_captions(captioner, &caption_options(args), rt)?;
    }
    Ok(())
}

fn caption_options(args: &StylizeArgs) -> CaptionOptions {
    CaptionOptions { prompt: args.instruction.clone(), max_new_tokens: None, num_beams: 1 }
}

/// The prompts of the whole way. The captioner leaves the memory before the generator comes.
fn described(args: &StylizeArgs, work: &Work, rt: &Runtime) -> Result<Vec<String>> {
    let describe = args.describe.as_deref().unwrap_or_default();
    let photo = work.fitted.view.as_ref().or(work.fitted.photo.as_ref()).context("no photo to describe")?;
    let budget = load_token_budget(model(args), rt)?;
    // A style that is too long is said before a model is loaded.
    for style in &args.style {
        budget.compose("", style)?;
    }
    let captioner = load_captioner(describe, rt)?;
    let caption = pipelines::describe_one(captioner.as_ref(), photo, &caption_options(args))?;
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
    Ok(prompts)
}
