//! From a name to a model that is ready to work.

use anyhow::Result;

use super::family::{CaptionerTask, Family, GeneratorTask, Task};
use super::locate::{Located, locate};
use super::registry::MODELS;
use super::{CaptionOptions, Captioner, Generator, Outline, Preprocess};
use crate::error::usage;
use crate::prompts::TokenBudget;
use crate::runtime::{DtypeChoice, Runtime};

/// Loads the captioner of this name (see [`locate`]).
pub fn load_captioner(name: &str, rt: &Runtime) -> Result<Box<dyn Captioner>> {
    let located = locate(name, rt)?;
    (captioner(name, &located)?.load)(&located.path, rt)
}

/// Refuses captions that the captioner of this name could make of no picture; loads no weights.
pub fn check_captions(name: &str, options: &CaptionOptions, rt: &Runtime) -> Result<()> {
    let located = locate(name, rt)?;
    (captioner(name, &located)?.check)(&located.path, options)
}

/// How the captioner of this name has photos preprocessed, see [`Preprocess`]; loads no weights.
pub fn captioner_preprocess(name: &str, rt: &Runtime) -> Result<Option<Preprocess>> {
    let located = locate(name, rt)?;
    (captioner(name, &located)?.preprocess)(&located.path)
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
    let located = locate(name, rt)?;
    let generator = generator(name, &located)?;
    check_precision(name, located.family, rt)?;
    Ok((generator.load)(&located.path, rt)?)
}

/// The generator of this name without its weights.
pub fn load_outline(name: &str, rt: &Runtime) -> Result<Box<dyn Outline>> {
    let located = locate(name, rt)?;
    let generator = generator(name, &located)?;
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
    let located = locate(name, rt)?;
    (generator(name, &located)?.budget)(&located.path)
}

fn captioner(name: &str, located: &Located) -> Result<&'static CaptionerTask> {
    match &located.family.task {
        Task::Caption(captioner) => Ok(captioner),
        _ => Err(wrong_family(name, located, "describe pictures", Family::is_captioner)),
    }
}

fn generator(name: &str, located: &Located) -> Result<&'static GeneratorTask> {
    match &located.family.task {
        Task::Generate(generator) => Ok(generator),
        _ => Err(wrong_family(name, located, "draw pictures", Family::is_generator)),
    }
}

fn wrong_family(name: &str, located: &Located, task: &str, fits: fn(&Family) -> bool) -> anyhow::Error {
    let names: Vec<&str> = MODELS.iter().filter(|entry| fits(entry.family)).map(|entry| entry.name).collect();
    usage(format!("{name} is a {}, it does not {task}: use one of {}", located.family.title(), names.join(", ")))
}
