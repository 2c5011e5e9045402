//! A folder of one's own pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::images;

/// A picture file under the name by which results know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// The file's stem; the whole file name where two files share a stem. Unique in its folder.
    pub id: String,
    pub path: PathBuf,
}

/// The pictures of a folder, sorted by id. A missing or empty folder is an error.
pub fn folder(dir: &Path) -> Result<Vec<Photo>> {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let files = images::list(dir)?;
    let mut stems: BTreeMap<String, usize> = BTreeMap::new();
    for path in &files {
        *stems.entry(text(path.file_stem())).or_default() += 1;
    }
    let mut photos: Vec<Photo> = files
        .into_iter()
        .map(|path| {
            let stem = text(path.file_stem());
            let id = if stems[&stem] == 1 { stem } else { text(path.file_name()) };
            Photo { id, path }
        })
        .collect();
    photos.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(photos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stems_and_unique() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.jpg", "a.PNG", "b.png", "a-1.webp", "notes.txt"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let ids: Vec<String> = folder(dir.path()).unwrap().into_iter().map(|photo| photo.id).collect();
        assert_eq!(ids, ["a", "a-1", "b.jpg", "b.png"]);
        assert!(folder(&dir.path().join("none")).is_err());
    }
}
