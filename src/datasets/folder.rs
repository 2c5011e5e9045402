//! A folder of one's own pictures.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::usage;
use crate::images::{self, Same, path_text};

/// A picture file under the name by which results know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// As [`images::ids`] makes it: unique in its folder, also where file names ignore case.
    pub id: String,
    pub path: PathBuf,
}

/// `ID.png` is a file's name, which has at most 255 bytes everywhere.
const LONGEST_ID: usize = 255 - ".png".len();

/// The pictures of a folder, sorted by id. A missing or empty folder is an error, and so are two pictures that cannot
/// both be written as `ID.png`.
pub fn folder(dir: &Path) -> Result<Vec<Photo>> {
    let photos = photos(dir, Same::IgnoringCase)?;
    if let Some(photo) = photos.iter().find(|photo| photo.id.len() > LONGEST_ID) {
        return Err(usage(format!(
            "{}: the name is too long for a picture of its own: rename it",
            path_text(&photo.path)
        )));
    }
    Ok(photos)
}

/// The pictures of a folder, sorted by id.
pub(super) fn photos(dir: &Path, same: Same) -> Result<Vec<Photo>> {
    let files = images::list(dir)?;
    let ids = images::ids(&files, same)?;
    let mut photos: Vec<Photo> = ids.into_iter().zip(files).map(|(id, path)| Photo { id, path }).collect();
    photos.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(photos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        dir
    }

    #[test]
    fn ids_are_stems_and_unique() {
        let dir = folder_of(&["b.jpg", "a.PNG", "b.png", "a-1.webp", "notes.txt", "._a.png", ".x.jpg", ".DS_Store"]);
        let ids: Vec<String> = folder(dir.path()).unwrap().into_iter().map(|photo| photo.id).collect();
        assert_eq!(ids, ["a", "a-1", "b.jpg", "b.png"]);
        assert!(folder(&dir.path().join("none")).is_err());
    }

    #[test]
    fn what_cannot_be_written_as_a_picture_is_refused() {
        let dir = folder_of(&["b.jpg", "A.png", "a.png"]);
        let error = folder(dir.path()).unwrap_err().to_string();
        assert!(error.contains("A.png") && error.contains("a.png would be pictures of one id"), "{error}");
        assert_eq!(photos(dir.path(), Same::Exactly).unwrap().len(), 3);
        let (long, longest) = (format!("{}.jpg", "x".repeat(251)), format!("{}.webp", "x".repeat(250)));
        assert!(folder(folder_of(&[&longest]).path()).is_ok());
        let error = folder(folder_of(&[&long, &longest, &format!("{}.png", "x".repeat(250))]).path()).unwrap_err();
        assert!(error.to_string().contains("the name is too long"), "{error}");
    }
}
