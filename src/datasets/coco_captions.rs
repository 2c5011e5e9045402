//! COCO's own caption annotations, `captions_val2014.json` (<https://cocodataset.org/#format-data>, image captioning).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::captioned::{Annotations, Place, Record, read_text};
use crate::error::usage;

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    caption: String,
}

/// The one `captions_*.json` of a folder or of its `annotations/`; of several the test split's.
pub fn find(path: &Path) -> Result<Option<PathBuf>> {
    let is_one = |file: &Path| split_of(file).is_some() && file.is_file();
    if path.is_file() {
        return Ok(is_one(path).then(|| path.to_path_buf()));
    }
    for folder in [path.to_path_buf(), path.join("annotations")] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut files: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_one(file)).collect();
        files.sort();
        let test = files.iter().find(|file| split_of(file).as_deref() == Some("test")).cloned();
        match (files.as_slice(), test) {
            ([], _) => {}
            ([only], _) => return Ok(Some(only.clone())),
            (_, Some(test)) => return Ok(Some(test)),
            (several, None) => {
                let names: Vec<String> = several.iter().map(|file| file.display().to_string()).collect();
                return Err(usage(format!("several data sets, name one of the files: {}", names.join(", "))));
            }
        }
    }
    Ok(None)
}

/// `captions_val2014.json` → `val2014`.
fn split_of(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    Some(name.strip_prefix("captions_")?.strip_suffix(".json")?.to_string())
}

/// The split is named by the file. Captions of a picture that the file does not list are an error.
pub fn read(file: &Path) -> Result<Annotations> {
    let data: File = read_json(file)?;
    let split = split_of(file).unwrap_or_default();
    let mut records: Vec<Record> = Vec::with_capacity(data.images.len());
    let mut places: HashMap<u64, usize> = HashMap::with_capacity(data.images.len());
    for image in data.images {
        if places.insert(image.id, records.len()).is_some() {
            bail!("{}: the image id {} is there twice", file.display(), image.id);
        }
        let (id, split) = (image.id.to_string(), split.clone());
        records.push(Record { id, file: image.file_name, references: Vec::new(), split });
    }
    for annotation in data.annotations {
        match places.get(&annotation.image_id) {
            Some(place) => records[*place].references.push(annotation.caption),
            None => bail!(
                "{}: a caption is of image {}, which is not under images: {:?}",
                file.display(),
                annotation.image_id,
                annotation.caption
            ),
        }
    }
    Ok(Annotations { file: file.to_path_buf(), records, pictures: Place::Near })
}

/// A JSON file; an error names the line.
pub(super) fn read_json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = read_text(file)?;
    serde_json::from_str(&text).map_err(|error| {
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or(&said);
        anyhow!("{}, line {}: {said}", file.display(), error.line())
    })
}
