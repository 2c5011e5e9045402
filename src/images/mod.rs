//! Pictures in and out: decoded as Pillow's `Image.open(path).convert("RGB")` decodes them, resized
//! as Pillow resizes, written whole or not at all.
//!
//! The camera's orientation (EXIF) is *not* applied: `convert("RGB")` does not, and neither do the
//! reference pipelines, so pixels here and in Python are the same.

mod ahead;
mod canny;
mod control_map;
mod decode;
pub mod faces;
mod fit;
mod header;
mod ids;
mod jpeg;
mod limits;
mod lineart;
mod listing;
mod luma;
mod png;
mod prefetch;
mod raw;
mod resample;
mod resize;
mod save;
mod tensor;
mod text;

use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use rayon::prelude::*;

pub use ahead::{in_order_ahead, in_parallel};
pub use canny::canny;
pub use control_map::ControlMap;
pub use decode::decode;
pub use fit::{Fit, checked_side, is_shape};
pub use header::{FileKind, Header, probe, probe_all};
pub use ids::{Same, distinct, folded, ids, path_text};
pub(crate) use limits::check_file_size;
pub use limits::{MAX_DECODE_BYTES, MAX_FILE_BYTES, MAX_PIXELS};
pub use lineart::lineart;
pub use listing::{EXTENSIONS, Listing, broken, list, listing};
pub use luma::luma;
pub use prefetch::{Prefetch, stream, stream_with};
pub use resize::{Filter, Window, resize, resize_window, thumbnail};
pub use save::{check_name, save, save_with};
pub use tensor::{batch_tensor, from_tensor, interleaved_tensor, standardize, to_tensor};
pub use text::{Text, read_text};

/// Decodes a picture file (JPEG, PNG or WebP, told by its content) to 8-bit RGB.
pub fn load(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    let picture = decode::read_file(path).and_then(|bytes| decode(&bytes));
    picture.with_context(|| format!("cannot read picture {}", path.display()))
}

/// Decodes on all cores; results in the order given, each its own success or failure.
pub fn load_all<P: AsRef<Path> + Sync>(paths: &[P]) -> Vec<Result<RgbImage>> {
    paths.par_iter().map(load).collect()
}

/// Width and height as the header of a picture file says, without decoding it.
pub fn size(path: impl AsRef<Path>) -> Result<(u32, u32)> {
    probe(path).map(|header| (header.width, header.height))
}
