//! A folder of pictures without captions: they can be described, not scored.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::captioned::{Annotations, Place, Record};
use super::folder::photos;
use crate::images::{self, Same};

pub const NAME: &str = "pictures";

/// A folder that holds pictures itself.
pub fn find(path: &Path) -> Result<Option<PathBuf>> {
    let holds = |path: &PathBuf| path.is_dir() && images::listing(path).is_ok_and(|found| !found.pictures.is_empty());
    Ok(Some(path.to_path_buf()).filter(holds))
}

/// The ids are those of [`images::ids`].
pub fn read(folder: &Path) -> Result<Annotations> {
    let (mut records, mut files) = (Vec::new(), Vec::new());
    for photo in photos(folder, Same::Exactly)? {
        // Distinct where the ids are; the name on disk need not be text.
        let file = images::path_text(Path::new(photo.path.file_name().unwrap_or_default()));
        records.push(Record { id: photo.id, file: file.clone(), references: Vec::new(), split: String::new() });
        files.push((file, photo.path));
    }
    Ok(Annotations { file: folder.to_path_buf(), records, pictures: Place::Listed(files) })
}
