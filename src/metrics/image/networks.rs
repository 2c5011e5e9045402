//! The networks in whose features pictures are compared.

use anyhow::Result;

use crate::error::{nearest, usage};
use crate::models::metric_nets::inception::Variant;

/// A network that describes a picture by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    ArtInception,
    InceptionV3,
}

impl Network {
    /// The model with the published weights; what outputs call the network.
    pub const fn model(self) -> &'static str {
        match self {
            Self::ArtInception => "art-inception",
            Self::InceptionV3 => "inception-v3",
        }
    }

    /// The smallest width and height of a picture.
    pub fn least(self) -> u32 {
        match self {
            Self::ArtInception => Variant::Art.least(),
            Self::InceptionV3 => Variant::Fid.least(),
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
