//! From a name to a model that is ready to work.

use anyhow::Result;

use super::captioners::blip::Blip;
use super::captioners::phi4_multimodal::Phi4Multimodal;
use super::diffusion::model::PipelineOutline;
use super::diffusion::pipeline_source::Source;
use super::diffusion::stable_diffusion::{SdOutline, StableDiffusion};
use super::diffusion::stable_diffusion_3::{Sd3Outline, StableDiffusion3};
use super::locate::{Located, locate};
use super::{CaptionOptions, Captioner, Family, Generator, Outline};
use crate::error::usage;
use crate::prompts::TokenBudget;
use crate::runtime::Runtime;

/// Loads the captioner of this name (see [`locate`]).
pub fn load_captioner(name: &str, rt: &Runtime) -> Result<Box<dyn Captioner>> {
    let located = locate(name, rt)?;
    match located.family {
        Family::Blip => Ok(Box::new(Blip::load(&located.path, rt)?)),
        Family::Phi4Multimodal => Ok(Box::new(Phi4Multimodal::load(&located.path, rt)?)),
        _ => Err(wrong_family(name, &located, "describe pictures", Family::is_captioner)),
    }
}

/// Loads the generator of this name (see [`locate`]).
pub fn load_generator(name: &str, rt: &Runtime) -> Result<Box<dyn Generator>> {
    let located = locate(name, rt)?;
    match located.family {
        Family::StableDiffusion3 => Ok(Box::new(StableDiffusion3::load(&located.path, rt)?)),
        Family::StableDiffusion => Ok(Box::new(StableDiffusion::load(&located.path, rt)?)),
        _ => Err(wrong_family(name, &located, "draw pictures", Family::is_generator)),
    }
}

/// The generator of this name without its weights.
pub fn load_outline(name: &str, rt: &Runtime) -> Result<Box<dyn Outline>> {
    let located = locate(name, rt)?;
    match located.family {
        Family::StableDiffusion3 => Ok(Box::new(Sd3Outline::read(Source::at(&located.path)?)?)),
        Family::StableDiffusion => Ok(Box::new(SdOutline::read(Source::at(&located.path)?)?)),
        _ => Err(wrong_family(name, &located, "draw pictures", Family::is_generator)),
    }
}

/// Refuses captions that the captioner of this name could make of no picture; loads no weights.
pub fn check_captions(name: &str, options: &CaptionOptions, rt: &Runtime) -> Result<()> {
    let located = locate(name, rt)?;
    match located.family {
        Family::Blip => Blip::check(&located.path, options),
        Family::Phi4Multimodal => Phi4Multimodal::check(&located.path, options),
        _ => Err(wrong_family(name, &located, "describe pictures", Family::is_captioner)),
    }
}

/// The prompt budget of the generator of this name, without its weights.
pub fn load_token_budget(name: &str, rt: &Runtime) -> Result<TokenBudget> {
    let located = locate(name, rt)?;
    if !located.family.is_generator() {
        return Err(wrong_family(name, &located, "draw pictures", Family::is_generator));
    }
    let tokenizers = Source::at(&located.path)?.clip_tokenizers()?;
    let limit = tokenizers.iter().map(|tokenizer| tokenizer.length()).min().unwrap_or(0);
    Ok(TokenBudget::new(tokenizers.iter().map(|tokenizer| tokenizer.tokenizer().clone()).collect(), limit))
}

fn wrong_family(name: &str, located: &Located, task: &str, fits: fn(Family) -> bool) -> anyhow::Error {
    let names: Vec<&str> = super::MODELS.iter().filter(|entry| fits(entry.family)).map(|entry| entry.name).collect();
    usage(format!("{name} is a {}, it does not {task}: use one of {}", located.family.title(), names.join(", ")))
}
