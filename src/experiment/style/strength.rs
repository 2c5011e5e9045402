//! One value of the axis `strength`: how far a picture leaves its photo.

use std::fmt::{self, Display};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// In TOML a number above 0 and up to 1, or `"none"`.
///
/// ```toml
/// strength = ["none", 0.4, 0.8]     # strategies …__t2i, …__i2i0.4 and …__i2i0.8
/// strength = { text_only = "none", half = 0.5 }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strength {
    /// Text-to-image: the photo reaches the picture through its description alone.
    TextOnly,
    /// Image-to-image: drawing starts from the photo with this share of the noise.
    FromPhoto(f64),
}

const TEXT_ONLY: &str = "none";

impl Strength {
    /// What the generator is told; None is text-to-image.
    pub fn value(self) -> Option<f64> {
        match self {
            Self::TextOnly => None,
            Self::FromPhoto(strength) => Some(strength),
        }
    }
}

/// Where no name is given, this is the value's name: ways that differ should not look alike.
impl Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::TextOnly => f.write_str("t2i"),
            Self::FromPhoto(strength) => write!(f, "i2i{strength}"),
        }
    }
}

impl Serialize for Strength {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::TextOnly => serializer.serialize_str(TEXT_ONLY),
            Self::FromPhoto(strength) => serializer.serialize_f64(*strength),
        }
    }
}

impl<'de> Deserialize<'de> for Strength {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = Strength;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a strength above 0 and up to 1, or \"none\" for text-to-image")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Strength, E> {
        if value > 0.0 && value <= 1.0 {
            return Ok(Strength::FromPhoto(value));
        }
        Err(E::custom(format!(
            "strength = {value} is not above 0 and up to 1 (text-to-image, without the photo, is \"none\")"
        )))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Strength, E> {
        self.visit_f64(value as f64)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Strength, E> {
        if value == TEXT_ONLY {
            return Ok(Strength::TextOnly);
        }
        let near = crate::error::nearest(value, [TEXT_ONLY]);
        Err(E::custom(format!(
            "strength = {value:?} is not known{near} (a number above 0 and up to 1, or \"none\" for text-to-image)"
        )))
    }
}
