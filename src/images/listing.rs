//! The picture files of a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::header::Header;
use crate::runtime::{is_hidden, one_line};

/// The endings of picture files that are read, in lower case.
pub const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Endings of pictures that are not read, in lower case: that they are left out is said.
const OTHERS: [&str; 29] = [
    "apng", "arw", "avif", "bmp", "cr2", "cr3", "dib", "dng", "exr", "gif", "hdr", "heic", "heif", "hif", "ico",
    "jfif", "jp2", "jpe", "jxl", "nef", "orf", "pbm", "pgm", "pnm", "ppm", "psd", "tga", "tif", "tiff",
];

/// What a folder holds. Hidden files (`._a.png`, `.x.jpg`), which file managers and macOS leave behind, are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by name, as `DIR/*` is.
    pub pictures: Vec<PathBuf>,
    /// How many pictures there are of each kind that is not read, by ending.
    pub others: BTreeMap<String, usize>,
}

impl Listing {
    /// `3 pictures of other kinds (2 .bmp, 1 .gif)`; none where there are none.
    pub fn left_out(&self) -> Option<String> {
        let count: usize = self.others.values().sum();
        let kinds: Vec<String> = self.others.iter().map(|(ending, count)| format!("{count} .{ending}")).collect();
        let pictures = if count == 1 { "picture of another kind" } else { "pictures of other kinds" };
        (count > 0).then(|| format!("{count} {pictures} ({})", kinds.join(", ")))
    }
}

/// Lists a folder, whatever is in it.
pub fn listing(dir: impl AsRef<Path>) -> Result<Listing> {
    let dir = dir.as_ref();
    let context = || format!("cannot list picture folder {}", dir.display());
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if is_hidden(&path) {
            continue;
        }
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_ascii_lowercase();
        // A link to a file that is gone is a picture that cannot be read, not none.
        let is_file = || path.metadata().map_or(true, |found| found.is_file());
        if EXTENSIONS.contains(&extension.as_str()) && is_file() {
            listing.pictures.push(path);
        } else if OTHERS.contains(&extension.as_str()) && is_file() {
            *listing.others.entry(extension).or_default() += 1;
        }
    }
    listing.pictures.sort();
    Ok(listing)
}

/// The picture files of a folder (see [`EXTENSIONS`], any case), sorted by name. Pictures of other kinds are said to be
/// left out. A missing folder, and one without pictures, is an error.
pub fn list(dir: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let dir = dir.as_ref();
    let listing = listing(dir)?;
    let read = EXTENSIONS.join(", ");
    let left_out = listing.left_out();
    if listing.pictures.is_empty() {
        let others = left_out.map(|others| format!(", but {others}: save them as PNG or JPEG")).unwrap_or_default();
        bail!("{}: no pictures here ({read}){others}", dir.display());
    }
    if let Some(others) = left_out {
        tracing::warn!("{}: {others} left out: only {read} are read", dir.display());
    }
    Ok(listing.pictures)
}

/// Which of the files that [`super::probe_all`] looked at cannot be read: how many, and why the first ones; none where all
/// can.
pub fn broken(probed: &[Result<Header>]) -> Option<String> {
    let errors: Vec<String> = probed.iter().filter_map(|found| found.as_ref().err()).map(one_line).collect();
    if errors.is_empty() {
        return None;
    }
    let more = if errors.len() > 3 { "; …" } else { "" };
    let first: Vec<&str> = errors.iter().take(3).map(String::as_str).collect();
    Some(format!("{} of {} pictures cannot be read: {}{more}", errors.len(), probed.len(), first.join("; ")))
}
