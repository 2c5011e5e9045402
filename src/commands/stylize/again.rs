//! `toolkit stylize --from PNG`: a picture again, from what its file says.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use image::RgbImage;

use super::work::{remark, write};
use crate::cli::{Global, LossyPrecision, StylizeArgs};
use crate::commands::print::say;
use crate::commands::team::{first_and_second, share_guidance};
use crate::error::{Outcome, usage};
use crate::experiment::models::{Captioners, OnThisMachine};
use crate::images;
use crate::models::{
    ControlRequest, LoraChoice, begin_generator, load_outline, locate, locate_controlnet, locate_lora,
};
use crate::pipelines::{ControlOrigin, FileOrigin, Origin, Recipe};
use crate::runtime::{DtypeChoice, FP8, log_peak_memory, sha256_of};

pub fn run(from: &Path, args: &StylizeArgs, global: &Global) -> Result<Outcome> {
    let recipe = Recipe::read(from)?;
    let own = if global.numbers() == DtypeChoice::Auto { numbers(&recipe) } else { (global.dtype, global.precision) };
    let (dtype, precision) = own;
    // A file may name any model: what is not here is not fetched for it.
    let (rt, second) = first_and_second(&Global { dtype, precision, offline: true, ..global.clone() })?;
    let model = args.model.as_deref().unwrap_or(&recipe.model);
    let path = locate(model, &rt).with_context(|| format!("{}: drawn by {model}", from.display()))?.path;
    let photo = match &recipe.photo {
        Some(photo) => Some(photo.find(args.image.as_deref(), from, "--image FILE")?),
        None if args.image.is_some() => {
            return Err(usage(format!("{} was drawn from text alone: leave --image out", from.display())));
        }
        None => None,
    };
    let photo = photo.map(images::load).transpose()?.map(|photo| recipe.start(photo));
    let loras = adapters(&recipe, from, args)?;
    let control = steering(&recipe, photo.as_ref(), from, args)?;
    let given = args.ip_adapter.as_deref().map(|adapter| (adapter, args.ip_image.as_slice()));
    let shown = match &recipe.ip_adapter {
        Some(origin) => Some(origin.find(given, from)?),
        None if given.is_some() => {
            return Err(usage(format!("{} was drawn without an IP-Adapter: leave --ip-adapter out", from.display())));
        }
        None => None,
    };
    let request = recipe.request(photo, loras, control, shown);
    load_outline(model, &rt)?.check(&request)?;
    let origin = Origin::new(model, &path, OnThisMachine::new(rt).place(), &request)?;
    let mut generator = begin_generator(model, &rt)?;
    let settled = generator.settled(&request, 0)?;
    share_guidance(generator.as_mut(), second, settled.guidance_scale)?;
    let mut again = Recipe {
        photo: recipe.photo.clone(),
        fit: recipe.fit,
        lora: recipe.lora.clone(),
        ip_adapter: recipe.ip_adapter.clone(),
        ..Recipe::of(&request, 0, &settled, &origin, None)
    };
    if let (Some(now), Some(then)) = (&mut again.control, &recipe.control) {
        *now = ControlOrigin { revision: now.revision.take(), ..then.clone() };
    }
    say_differences(&recipe, &again);
    let drawn = generator.generate(&request)?.into_iter().next().context("the generator drew nothing")?;
    remark(&drawn);
    log_peak_memory(rt.device);
    write(&drawn.image, &again.texts()?, generator, &args.out)?;
    say!("{}", args.out.display());
    Ok(Outcome::Done)
}

/// The number types that it was drawn in.
fn numbers(recipe: &Recipe) -> (DtypeChoice, Option<LossyPrecision>) {
    let precision = (recipe.dtype == FP8).then_some(LossyPrecision::Fp8);
    (DtypeChoice::from_str(&recipe.dtype, true).unwrap_or(DtypeChoice::Auto), precision)
}

/// Its low-rank adapters, where they are now: those that are given are told by what they hold.
fn adapters(recipe: &Recipe, from: &Path, args: &StylizeArgs) -> Result<Vec<LoraChoice>> {
    let mut given = Vec::new();
    for name in &args.lora {
        let file = locate_lora(name, true)?;
        given.push((sha256_of(&file)?, name, file));
    }
    let is_used = |sha256: &String| recipe.lora.iter().any(|adapter| adapter.sha256 == *sha256);
    if let Some((_, name, _)) = given.iter().find(|(sha256, ..)| !is_used(sha256)) {
        return Err(usage(format!("{} was drawn without the LoRA {name}: leave it out", from.display())));
    }
    let find = |adapter: &FileOrigin| {
        let own = given.iter().find(|(sha256, ..)| *sha256 == adapter.sha256).map(|(.., file)| file.as_path());
        let file = adapter.find(own, from, "--lora FILE")?;
        Ok(LoraChoice { file, weight: adapter.weight.unwrap_or(1.0) })
    };
    recipe.lora.iter().map(find).collect()
}

/// The ControlNet and what it reads, where they are now.
fn steering(
    recipe: &Recipe,
    photo: Option<&RgbImage>,
    from: &Path,
    args: &StylizeArgs,
) -> Result<Option<ControlRequest>> {
    let Some(control) = &recipe.control else {
        return match (&args.controlnet, &args.control_image) {
            (None, None) => Ok(None),
            _ => Err(usage(format!("{} was drawn without a ControlNet: leave its options out", from.display()))),
        };
    };
    let model = match &args.controlnet {
        Some(name) => name.clone(),
        None => named_beside(&control.model, from),
    };
    locate_controlnet(&model, true)
        .with_context(|| format!("{}: steered by {model}, or by what --controlnet names", from.display()))?;
    let image = match (&control.image, &args.control_image, control.map.and(photo)) {
        (_, Some(file), Some(_)) => {
            let file = file.display();
            return Err(usage(format!(
                "{} was steered by its photo: leave --control-image {file} out",
                from.display()
            )));
        }
        (_, None, Some(photo)) => photo.clone(),
        (Some(image), given, None) => images::load(image.find(given.as_deref(), from, "--control-image FILE")?)?,
        // Files of earlier versions.
        (None, Some(given), None) => images::load(given)?,
        (None, None, None) => {
            return Err(usage(format!(
                "{} does not say which picture steered it: give that with --control-image FILE",
                from.display()
            )));
        }
    };
    let ControlOrigin { map, scale, start, end, .. } = *control;
    Ok(Some(ControlRequest { model, map, images: vec![image], scale, start, end }))
}

/// The name, or where that leads to from the picture's folder.
fn named_beside(name: &str, from: &Path) -> String {
    let seen_from_there = from.parent().map(|folder| folder.join(name)).filter(|path| path.exists());
    let own = Path::new(name).exists();
    seen_from_there.filter(|_| !own).map_or(name.to_string(), |path| path.display().to_string())
}

/// Why the picture may be another.
fn say_differences(then: &Recipe, now: &Recipe) {
    let none = "none".to_string();
    let net = |recipe: &Recipe| recipe.control.as_ref().and_then(|control| control.revision.clone());
    if let (Some(then), Some(now)) = (net(then), net(now))
        && then != now
    {
        tracing::warn!("the files of the ControlNet differ: {then} then, {now} now; the picture may too");
    }
    for (what, then, now) in [
        ("files of the model", then.revision.as_ref().unwrap_or(&none), now.revision.as_ref().unwrap_or(&none)),
        ("device", &then.device, &now.device),
        ("number type", &then.dtype, &now.dtype),
        ("solver", &then.sampler, &now.sampler),
        ("version of this program", &then.version, &now.version),
    ] {
        if then != now {
            tracing::warn!("the {what} differs: {then} then, {now} now; the picture may too");
        }
    }
}
