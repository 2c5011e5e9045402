//! From a name to a model that is ready to work.

use anyhow::Result;

use super::family::{CaptionerTask, Family, GeneratorTask, Task};
use super::locate::{Located, locate};
use super::registry::{MODELS, built_in};
use super::{CaptionOptions, Captioner, Generator, Outline, Preprocess};
use crate::error::usage;
use crate::prompts::TokenBudget;
use crate::runtime::{DtypeChoice, Runtime};

/// Loads the captioner of this name (see [`locate`]).
pub fn load_captioner(name: &str, rt: &Runtime) -> Result<Box<dyn Captioner>> {
    let (located, captioner) = captioner(name, rt)?;
    (captioner.load)(&located.path, rt)
}

/// Refuses captions that the captioner of this name could make of no picture; loads no weights.
pub fn check_captions(name: &str, options: &CaptionOptions, rt: &Runtime) -> Result<()> {
    let (located, captioner) = captioner(name, rt)?;
    (captioner.check)(&located.path, options)
}

/// How the captioner of this name has photos preprocessed, see [`Preprocess`]; loads no weights.
pub fn captioner_preprocess(name: &str, rt: &Runtime) -> Result<Option<Preprocess>> {
    let (located, captioner) = captioner(name, rt)?;
    (captioner.preprocess)(&located.path)
}

/// Loads the generator of this name (see [`locate`]).
pub fn load_generator(name: &str, rt: &Runtime) -> Result<Box<dyn Generator>> {
    let generator = begin_generator(name, rt)?;
    generator.settle()?;
    Ok(generator)
}

/// The same for a single drawing, which begins while weights are still read: what is wrong with those comes as the error of
/// the drawing.
pub fn begin_generator(name: &str, rt: &Runtime) -> Result<Box<dyn Generator>> {
    let (located, generator) = generator(name, rt)?;
    check_precision(name, located.family, rt)?;
    Ok((generator.load)(&located.path, rt)?)
}

/// The generator of this name without its weights.
pub fn load_outline(name: &str, rt: &Runtime) -> Result<Box<dyn Outline>> {
    let (located, generator) = generator(name, rt)?;
    check_precision(name, located.family, rt)?;
    (generator.outline)(&located.path)
}

/// Refuses `--precision fp8` of a model that has no layers in float8.
pub fn check_precision(name: &str, family: &Family, rt: &Runtime) -> Result<()> {
    if rt.dtype != DtypeChoice::Float8 || family.takes_float8() {
        return Ok(());
    }
    let names: Vec<&str> = MODELS.iter().filter(|entry| entry.family.takes_float8()).map(|entry| entry.name).collect();
    Err(usage(format!(
        "--precision fp8 is for {}: {name} is a {}, which has no layers in float8",
        names.join(", "),
        family.title()
    )))
}

/// The prompt budget of the generator of this name, without its weights.
pub fn load_token_budget(name: &str, rt: &Runtime) -> Result<TokenBudget> {
    let (located, generator) = generator(name, rt)?;
    (generator.budget)(&located.path)
}

/// Finds a captioner by its name (see [`locate`]).
///
/// # Errors
/// Wrong usage: it is no captioner; a built-in name of another task is refused before anything of it is downloaded.
pub fn locate_captioner(name: &str, rt: &Runtime) -> Result<Located> {
    captioner(name, rt).map(|(located, _)| located)
}

/// Finds a generator by its name (see [`locate`]).
///
/// # Errors
/// As of [`locate_captioner`].
pub fn locate_generator(name: &str, rt: &Runtime) -> Result<Located> {
    generator(name, rt).map(|(located, _)| located)
}

fn captioner(name: &str, rt: &Runtime) -> Result<(Located, &'static CaptionerTask)> {
    let of = |family: &'static Family| match &family.task {
        Task::Caption(captioner) => Some(captioner),
        _ => None,
    };
    located_for(name, rt, "describe pictures", of)
}

fn generator(name: &str, rt: &Runtime) -> Result<(Located, &'static GeneratorTask)> {
    let of = |family: &'static Family| match &family.task {
        Task::Generate(generator) => Some(generator),
        _ => None,
    };
    located_for(name, rt, "draw pictures", of)
}

/// `of` is the task of a family that fits.
fn located_for<T>(
    name: &str,
    rt: &Runtime,
    task: &str,
    of: fn(&'static Family) -> Option<&'static T>,
) -> Result<(Located, &'static T)> {
    let fits = |family: &'static Family| of(family).ok_or_else(|| wrong_task(name, family, task, of));
    if let Some(entry) = built_in(name) {
        fits(entry.family)?;
    }
    let located = locate(name, rt)?;
    let task = fits(located.family)?;
    Ok((located, task))
}

fn wrong_task<T>(
    name: &str,
    family: &Family,
    task: &str,
    of: fn(&'static Family) -> Option<&'static T>,
) -> anyhow::Error {
    let names: Vec<&str> = MODELS.iter().filter(|entry| of(entry.family).is_some()).map(|entry| entry.name).collect();
    usage(format!("{name} is a {}, it does not {task}: use one of {}", family.title(), names.join(", ")))
}
