//! The networks in whose features pictures are compared.

use std::path::PathBuf;

use anyhow::Result;

use crate::error::{nearest, usage};
use crate::models::metric_nets::inception::Variant;
use crate::models::{locate_clip, locate_csd, locate_dinov2, locate_inception, locate_inception_v3};
use crate::runtime::Runtime;

/// A network that describes a picture by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    ArtInception,
    InceptionV3,
    /// CLIP, which knows texts too.
    Clip,
    /// The larger CLIP that CMMD is defined in.
    ClipLarge,
    Csd,
    Dinov2,
}

impl Network {
    /// The model with the published weights; what outputs call the network.
    pub const fn model(self) -> &'static str {
        match self {
            Self::ArtInception => "art-inception",
            Self::InceptionV3 => "inception-v3",
            Self::Clip => "clip-vit-b-32",
            Self::ClipLarge => "clip-vit-l-14-336",
            Self::Csd => "csd-vit-l",
            Self::Dinov2 => "dinov2-base",
        }
    }

    /// The network that outputs call so.
    pub fn named(model: &str) -> Option<Self> {
        let all = [Self::ArtInception, Self::InceptionV3, Self::Clip, Self::ClipLarge, Self::Csd, Self::Dinov2];
        all.into_iter().find(|network| network.model() == model)
    }

    /// Whether pictures go in at their own size, which must be one; other networks bring each to the size that they see.
    pub fn takes_own_size(self) -> bool {
        matches!(self, Self::ArtInception | Self::InceptionV3)
    }

    /// Width and height that the published network brings pictures to, where it does.
    pub const fn usual_size(self) -> (u32, u32) {
        if matches!(self, Self::ClipLarge) { (336, 336) } else { (224, 224) }
    }

    /// The smallest width and height of a picture.
    pub fn least(self) -> u32 {
        if self == Self::ArtInception { Variant::Art.least() } else { 1 }
    }

    /// The file or folder of its weights: by a name, a folder, a file or a hub id.
    pub fn locate(self, name: &str, rt: &Runtime) -> Result<PathBuf> {
        match self {
            Self::ArtInception => locate_inception(name, rt),
            Self::InceptionV3 => locate_inception_v3(name, rt),
            Self::Clip | Self::ClipLarge => locate_clip(name, rt),
            Self::Csd => locate_csd(name, rt),
            Self::Dinov2 => locate_dinov2(name, rt),
        }
    }

    /// One of `choices` by its name; none: the first.
    ///
    /// # Errors
    /// Wrong usage that names the choices.
    pub fn choose(name: Option<&str>, choices: &[Self]) -> Result<Self> {
        let names = || choices.iter().map(|network| network.model());
        let chosen = match name {
            None => choices.first(),
            Some(name) => choices.iter().find(|network| network.model() == name),
        };
        chosen.copied().ok_or_else(|| {
            let name = name.unwrap_or_default();
            let (near, known) = (nearest(name, names()), names().collect::<Vec<_>>().join(", "));
            usage(format!("--network {name:?} is not known here{near} (known: {known})"))
        })
    }
}
