//! A data set of pictures with reference captions, whatever its format.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use image::RgbImage;

use super::archive::Archive;
use crate::images;

/// Where a picture's bytes are.
#[derive(Debug, Clone)]
pub enum Picture {
    File(PathBuf),
    /// An entry of an archive, by its position.
    Entry(Arc<Archive>, usize),
}

impl Picture {
    /// Reads and decodes the picture.
    pub fn load(&self) -> Result<RgbImage> {
        match self {
            Self::File(path) => images::load(path),
            Self::Entry(archive, index) => {
                let decoded = images::decode(&archive.read(*index)?);
                decoded.with_context(|| format!("cannot read picture {}", archive.name(*index)))
            }
        }
    }
}

/// A picture and what people wrote of it.
#[derive(Debug, Clone)]
pub struct Item {
    /// As the data set itself names it; unique.
    pub id: String,
    /// In the order of the file; none only in a plain folder of pictures.
    pub references: Vec<String>,
    /// The picture's file as the data set names it.
    pub file: String,
    pub picture: Picture,
}

/// A picture as the annotations tell of it, before it was looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub id: String,
    /// Name of the file, with the folder where the format knows it.
    pub file: String,
    pub references: Vec<String>,
    /// The part of the data set; empty where the format has none.
    pub split: String,
}

/// What an annotation file says, and where its pictures are expected.
#[derive(Debug)]
pub struct Annotations {
    pub file: PathBuf,
    pub records: Vec<Record>,
    pub pictures: Place,
}

/// Where a format keeps its pictures.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// In the folder of the annotations, or near it.
    Near,
    /// In an archive beside the annotations, in this folder of it; or that folder itself, unpacked.
    Zip { archive: &'static str, folder: &'static str },
    /// These files, by the names that the records have.
    Listed(Vec<(String, PathBuf)>),
}

/// A file's name without its ending: the id where a format has no other.
pub(super) fn stem(file: &str) -> String {
    let name = Path::new(file);
    name.with_extension("").to_string_lossy().into_owned()
}

/// The whole of a text file; other encodings than UTF-8 are named with the line.
pub(super) fn read_text(file: &Path) -> Result<String> {
    let shown = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes); // a byte order mark
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        anyhow::anyhow!("{shown}, line {line}: not UTF-8 text")
    })
}
