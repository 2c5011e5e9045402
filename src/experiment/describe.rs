//! Descriptions of pictures, as every kind of experiment makes them.

use std::time::Instant;

use anyhow::Result;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::models::{CaptionOptions, Captioner};
use crate::pipelines::describe;
use crate::runtime::one_line;
use crate::workers::{Packed, Parcel};

/// What a captioner said of one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Described {
    pub text: String,
    /// New tokens, the end token included.
    pub tokens: usize,
    /// Its share of the time of the batch.
    pub seconds: f64,
}

/// What was said of each picture of a batch, or why nothing was.
pub type AllSaid = Vec<Result<Described, String>>;

impl Parcel for AllSaid {
    fn pack(self) -> Result<Packed> {
        Packed::of(&self)
    }

    fn unpack(packed: Packed) -> Result<Self> {
        packed.read()
    }
}

/// Describes those pictures of a batch that could be decoded; for each picture what was said, or why nothing was.
/// `captioner` comes with its name, `shown` names the picture at a place.
pub fn describe_batch(
    (name, captioner): (&str, &dyn Captioner),
    options: &CaptionOptions,
    decoded: Vec<Result<RgbImage>>,
    shown: impl Fn(usize) -> String,
) -> AllSaid {
    let (mut said, mut places, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    for (at, picture) in decoded.into_iter().enumerate() {
        match picture {
            Ok(pixels) => {
                places.push(at);
                pictures.push(pixels);
                said.push(Err(String::new()));
            }
            Err(error) => said.push(Err(one_line(&error))),
        }
    }
    let start = Instant::now();
    let captions = describe(captioner, &pictures, options);
    let seconds = start.elapsed().as_secs_f64() / pictures.len().max(1) as f64;
    for (at, caption) in places.into_iter().zip(captions) {
        said[at] = match caption {
            Ok(caption) => Ok(Described { text: caption.text, tokens: caption.tokens, seconds }),
            Err(error) => Err(format!("{name} cannot describe {}: {}", shown(at), one_line(&error))),
        };
    }
    said
}
