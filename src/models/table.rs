//! The table of built-in names. A new model is one row here.

use crate::error::{nearest, usage};

/// What kind of network a folder holds; read from its own config, never from the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    Blip,
    Phi4Multimodal,
    StableDiffusion3,
    StableDiffusion,
    ArtInception,
    InceptionV3,
    Lpips,
}

impl Family {
    /// How it is called in messages.
    pub fn title(self) -> &'static str {
        match self {
            Self::Blip => "BLIP captioner",
            Self::Phi4Multimodal => "Phi-4-multimodal captioner",
            Self::StableDiffusion3 => "Stable Diffusion 3 generator",
            Self::StableDiffusion => "Stable Diffusion generator",
            Self::ArtInception => "metric net art-Inception",
            Self::InceptionV3 => "metric net Inception v3",
            Self::Lpips => "metric net LPIPS",
        }
    }

    pub fn is_captioner(self) -> bool {
        matches!(self, Self::Blip | Self::Phi4Multimodal)
    }

    /// Whether its noise schedule can be walked by another solver than the checkpoint's own.
    pub fn takes_schedulers(self) -> bool {
        self == Self::StableDiffusion
    }

    pub fn is_generator(self) -> bool {
        matches!(self, Self::StableDiffusion3 | Self::StableDiffusion)
    }
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
    /// `owner/name` on the Hugging Face hub: a folder.
    Hub(&'static str),
    /// One file of a repository on the Hugging Face hub.
    HubFile { repo: &'static str, file: &'static str },
    /// A file in torch's own cache; its name ends in the first digits of its sha256.
    Torch { file: &'static str, url: &'static str },
    /// A folder under `experiments/mini/`, part of this repository.
    Embedded(&'static str),
}

pub static MODELS: &[ModelEntry] = &[
    ModelEntry {
        name: "blip-base",
        family: Family::Blip,
        source: Source::Hub("Salesforce/blip-image-captioning-base"),
        about: "describes pictures in a short sentence; 0.25 B parameters",
    },
    ModelEntry {
        name: "blip-large",
        family: Family::Blip,
        source: Source::Hub("Salesforce/blip-image-captioning-large"),
        about: "describes pictures in a short sentence; 0.47 B parameters",
    },
    ModelEntry {
        name: "phi-4-multimodal",
        family: Family::Phi4Multimodal,
        source: Source::Hub("microsoft/Phi-4-multimodal-instruct"),
        about: "describes pictures as it is told to; 5.6 B parameters",
    },
    ModelEntry {
        name: "sd3-medium",
        family: Family::StableDiffusion3,
        source: Source::Hub("stabilityai/stable-diffusion-3-medium-diffusers"),
        about: "draws pictures from text; 2 B parameters and 5.6 B of text encoders",
    },
    ModelEntry {
        name: "sd-v1-5",
        family: Family::StableDiffusion,
        source: Source::Hub("stable-diffusion-v1-5/stable-diffusion-v1-5"),
        about: "draws pictures from text, or from a photo and text; 1 B parameters",
    },
    ModelEntry {
        name: "art-inception",
        family: Family::ArtInception,
        source: Source::HubFile { repo: "matthias-wright/art_inception", file: "art_inception.pth" },
        about: "the features in which ArtFID compares pictures",
    },
    ModelEntry {
        name: "inception-v3",
        family: Family::InceptionV3,
        source: Source::Torch {
            file: "pt_inception-2015-12-05-6726825d.pth",
            url: "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        },
        about: "the features in which FID and KID are published, as pytorch-fid has them",
    },
    ModelEntry {
        name: "lpips-alex",
        family: Family::Lpips,
        source: Source::Torch {
            file: "alexnet-owt-7be5be79.pth",
            url: "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        },
        about: "AlexNet, the trunk of LPIPS; the heads are part of this repository",
    },
    ModelEntry {
        name: "mini-blip",
        family: Family::Blip,
        source: Source::Embedded("models/mini-blip"),
        about: "blip-base, tiny, part of this repository",
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
    ModelEntry {
        name: "mini-sd-v1-5",
        family: Family::StableDiffusion,
        source: Source::Embedded("models/mini-sd-v1-5"),
        about: "sd-v1-5, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-art-inception",
        family: Family::ArtInception,
        source: Source::Embedded("models/mini-art-inception"),
        about: "art-inception, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-lpips",
        family: Family::Lpips,
        source: Source::Embedded("models/mini-lpips"),
        about: "lpips-alex, tiny, part of this repository",
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
