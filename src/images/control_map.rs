//! What is computed from a photo for a ControlNet to read.

use std::fmt;
use std::str::FromStr;

use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{canny, lineart};
use crate::error::nearest;

/// Thresholds of Canny's edges, as the published ControlNet was trained and is used.
const EDGES: (i32, i32) = (100, 200);

/// A way from a photo to what a ControlNet reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControlMap {
    /// Canny's edges.
    Canny,
    /// Lines as if drawn.
    Lineart,
}

impl ControlMap {
    pub const ALL: [Self; 2] = [Self::Canny, Self::Lineart];

    pub fn name(self) -> &'static str {
        match self {
            Self::Canny => "canny",
            Self::Lineart => "lineart",
        }
    }

    /// White on black, of the photo's size.
    pub fn of(self, photo: &RgbImage) -> RgbImage {
        match self {
            Self::Canny => canny(photo, EDGES.0, EDGES.1),
            Self::Lineart => lineart(photo),
        }
    }
}

impl fmt::Display for ControlMap {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By its name; the error is what is wrong with that.
impl FromStr for ControlMap {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name);
        let found = Self::ALL.into_iter().find(|map| map.name() == name);
        found.ok_or_else(|| format!("{name:?} is not known{} (known: {})", nearest(name, known), known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files_and_a_wrong_one_is_told_the_nearest() {
        for map in ControlMap::ALL {
            assert_eq!((map.name().parse(), serde_json::to_value(map).unwrap()), (Ok(map), map.name().into()));
        }
        let error = "cany".parse::<ControlMap>().unwrap_err();
        assert_eq!(error, "\"cany\" is not known, did you mean \"canny\"? (known: canny, lineart)");
    }
}
