//! A folder of pictures without captions: they can be described, not scored.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::captioned::{Annotations, Place, Record};
use crate::images;

pub const NAME: &str = "pictures";

/// A folder that holds pictures itself.
pub fn find(path: &Path) -> Result<Option<PathBuf>> {
    Ok(Some(path.to_path_buf()).filter(|path| path.is_dir() && images::list(path).is_ok()))
}

/// The ids are those of [`super::folder`].
pub fn read(folder: &Path) -> Result<Annotations> {
    let photos = super::folder(folder)?;
    let record = |photo: super::Photo| {
        let file = photo.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Record { id: photo.id, file, references: Vec::new(), split: String::new() }
    };
    let records = photos.into_iter().map(record).collect();
    Ok(Annotations { file: folder.to_path_buf(), records, pictures: Place::Near })
}
