//! The splits of Karpathy and Fei-Fei (<https://cs.stanford.edu/people/karpathy/deepimagesent/>): `dataset_coco.json`,
//! `dataset_flickr30k.json`.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::captioned::{Annotations, Place, Record, stem};
use super::coco_captions::read_json;

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Image {
    /// The folder of the picture in COCO.
    #[serde(default)]
    filepath: String,
    filename: String,
    #[serde(default)]
    split: String,
    sentences: Vec<Sentence>,
    cocoid: Option<u64>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

/// The id is `cocoid`; where there is none, the file's stem.
pub fn read(file: &Path) -> Result<Annotations> {
    let data: File = read_json(file)?;
    let record = |image: Image| Record {
        id: image.cocoid.map_or_else(|| stem(&image.filename), |id| id.to_string()),
        file: if image.filepath.is_empty() { image.filename } else { format!("{}/{}", image.filepath, image.filename) },
        references: image.sentences.into_iter().map(|sentence| sentence.raw).collect(),
        split: image.split,
    };
    let records = data.images.into_iter().map(record).collect();
    Ok(Annotations { file: file.to_path_buf(), records, pictures: Place::Near })
}
