//! `toolkit stylize --from PNG`: a picture again, from what its file says.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::work::remark;
use crate::cli::{Global, StylizeArgs};
use crate::commands::print::say;
use crate::commands::team::{first_and_second, share_guidance};
use crate::error::{Outcome, usage};
use crate::experiment::models::{Captioners, OnThisMachine};
use crate::images;
use crate::models::{LoraChoice, load_generator, load_outline, locate};
use crate::pipelines::{Origin, Recipe};
use crate::runtime::{DtypeChoice, log_peak_memory};

pub fn run(from: &Path, args: &StylizeArgs, global: &Global) -> Result<Outcome> {
    let recipe = Recipe::read(from)?;
    if let Some(control) = &recipe.control {
        return Err(usage(format!(
            "{} was steered by the ControlNet {}, which this file alone cannot do again: give the options of the first \
             drawing",
            from.display(),
            control.model.display()
        )));
    }
    let own = DtypeChoice::from_str(&recipe.dtype, true).unwrap_or(DtypeChoice::Auto);
    let dtype = if global.dtype == DtypeChoice::Auto { own } else { global.dtype };
    // A file may name any model: what is not here is not fetched for it.
    let (rt, second) = first_and_second(&Global { dtype, offline: true, ..global.clone() })?;
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
    let mut loras = Vec::new();
    for adapter in &recipe.lora {
        let file = adapter.find(None, from, "its file at that place")?;
        loras.push(LoraChoice { file, weight: adapter.weight.unwrap_or(1.0) });
    }
    let given = args.ip_adapter.as_deref().map(|adapter| (adapter, args.ip_image.as_slice()));
    let shown = match &recipe.ip_adapter {
        Some(origin) => Some(origin.find(given, from)?),
        None if given.is_some() => {
            return Err(usage(format!("{} was drawn without an IP-Adapter: leave --ip-adapter out", from.display())));
        }
        None => None,
    };
    let request = recipe.request(photo, loras.clone(), shown.clone());
    load_outline(model, &rt)?.check(&request)?;
    let origin = Origin::new(model, &path, OnThisMachine::new(rt).place(), &loras, shown.as_ref())?;
    let mut generator = load_generator(model, &rt)?;
    let settled = generator.settled(&request, 0)?;
    share_guidance(generator.as_mut(), second, settled.guidance_scale)?;
    let again = Recipe {
        photo: recipe.photo.clone(),
        fit: recipe.fit,
        lora: recipe.lora.clone(),
        ip_adapter: recipe.ip_adapter.clone(),
        ..Recipe::of(&request, 0, &settled, &origin, None)
    };
    say_differences(&recipe, &again);
    let drawn = generator.generate(&request)?.into_iter().next().context("the generator drew nothing")?;
    remark(&drawn);
    log_peak_memory(rt.device);
    images::save_with(&drawn.image, &args.out, &again.texts()?)?;
    say!("{}", args.out.display());
    Ok(Outcome::Done)
}

/// Why the picture may be another.
fn say_differences(then: &Recipe, now: &Recipe) {
    let none = "none".to_string();
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
