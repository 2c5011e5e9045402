//! The table of built-in names. A new model is one row here.

use crate::error::{nearest, usage};

/// What kind of network a folder holds; read from its own config, never from the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Blip,
    Phi4Multimodal,
    StableDiffusion3,
    StableDiffusion,
    ArtInception,
    Lpips,
}

/// A built-in name.
#[derive(Debug)]
pub struct ModelEntry {
    pub name: &'static str,
    pub family: Family,
    /// Where its files come from.
    pub source: Source,
    /// One line for `models list`.
    pub about: &'static str,
}

#[derive(Debug)]
pub enum Source {
    /// `owner/name` on the Hugging Face hub.
    Hub(&'static str),
    /// A folder under `experiments/mini/`, part of this repository.
    Embedded(&'static str),
}

pub static MODELS: &[ModelEntry] = &[
    ModelEntry {
        name: "phi-4-multimodal",
        family: Family::Phi4Multimodal,
        source: Source::Hub("microsoft/Phi-4-multimodal-instruct"),
        about: "describes pictures; 5.6 B parameters",
    },
    ModelEntry {
        name: "sd3-medium",
        family: Family::StableDiffusion3,
        source: Source::Hub("stabilityai/stable-diffusion-3-medium-diffusers"),
        about: "draws pictures from text; 2 B parameters and 5.6 B of text encoders",
    },
    ModelEntry {
        name: "mini-phi-4-multimodal",
        family: Family::Phi4Multimodal,
        source: Source::Embedded("models/mini-phi-4-multimodal"),
        about: "phi-4-multimodal, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-sd3",
        family: Family::StableDiffusion3,
        source: Source::Embedded("models/mini-sd3"),
        about: "sd3-medium, tiny, part of this repository",
    },
];

/// The row of a built-in name.
pub fn find(name: &str) -> anyhow::Result<&'static ModelEntry> {
    MODELS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        usage(format!(
            "no model is called {name:?}{} (`toolkit models list` shows the names)",
            nearest(name, MODELS.iter().map(|entry| entry.name))
        ))
    })
}
