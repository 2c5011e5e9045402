//! Where the pictures of a data set are: folders near its annotations, or an archive.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::captioned::{Annotations, Picture, Place};
use crate::error::usage;
use crate::runtime::is_hidden;

/// Finds pictures by the name that the annotations give them.
#[derive(Debug)]
pub enum Pictures {
    Folders {
        roots: Vec<PathBuf>,
        /// Every file of the roots and of the folders in them, by name; roots first.
        names: HashMap<String, PathBuf>,
    },
    Archive {
        archive: Arc<Archive>,
        files: BTreeMap<String, usize>,
    },
    /// As the annotations say themselves.
    Listed {
        folder: PathBuf,
        files: HashMap<String, PathBuf>,
    },
}

impl Pictures {
    /// `images` is the user's own word for where they are: a folder or a zip archive.
    pub fn find(annotations: &Annotations, images: Option<&Path>) -> Result<Self> {
        let folder = annotations.file.parent().unwrap_or(Path::new("."));
        let folder = if annotations.file.is_dir() { &annotations.file } else { folder };
        if let Some(images) = images {
            if images.is_file() {
                return Self::archive(images, &annotations.pictures);
            }
            if !images.is_dir() {
                return Err(usage(format!("{} is neither a folder of pictures nor a zip archive", images.display())));
            }
            return Self::folders(vec![images.to_path_buf()]);
        }
        match &annotations.pictures {
            Place::Listed(files) => {
                Ok(Self::Listed { folder: folder.to_path_buf(), files: files.iter().cloned().collect() })
            }
            Place::Near => {
                let mut roots = vec![folder.to_path_buf()];
                // The COCO archives unpack to annotations/ and val2014/ side by side.
                if let (Some("annotations"), Some(above)) =
                    (folder.file_name().and_then(|n| n.to_str()), folder.parent())
                {
                    roots.push(above.to_path_buf());
                }
                Self::folders(roots)
            }
            Place::Zip { archive, folder: inside } => {
                let zip = folder.join(archive);
                if zip.is_file() {
                    return Self::archive(&zip, &annotations.pictures);
                }
                if folder.join(inside).is_dir() {
                    return Self::folders(vec![folder.join(inside)]);
                }
                bail!(
                    "{} is missing: the pictures of {} come in {archive} (or unpacked in {inside}/)",
                    zip.display(),
                    annotations.file.display()
                );
            }
        }
    }

    fn archive(path: &Path, place: &Place) -> Result<Self> {
        let archive = Archive::open(path)?;
        let files = match place {
            Place::Zip { folder, .. } => archive.files_of(folder)?,
            Place::Near | Place::Listed(_) => archive.all_files(),
        };
        Ok(Self::Archive { archive: Arc::new(archive), files })
    }

    fn folders(roots: Vec<PathBuf>) -> Result<Self> {
        let mut names = HashMap::new();
        for root in &roots {
            let mut inner = Vec::new();
            for (name, path) in list(root)? {
                if path.is_dir() {
                    inner.push(path);
                } else {
                    names.entry(name).or_insert(path);
                }
            }
            for folder in inner {
                for (name, path) in list(&folder)? {
                    names.entry(name).or_insert(path);
                }
            }
        }
        Ok(Self::Folders { roots, names })
    }

    /// The picture of this name (which may have folders), if it is there. Names that lead elsewhere find nothing.
    pub fn get(&self, file: &str) -> Option<Picture> {
        if let Self::Listed { files, .. } = self {
            return files.get(file).cloned().map(Picture::File);
        }
        let inside = Path::new(file).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let name = Path::new(file).file_name()?.to_str().filter(|_| inside)?;
        match self {
            Self::Folders { roots, names } => {
                let direct = roots.iter().map(|root| root.join(file)).find(|path| path.is_file());
                direct.or_else(|| names.get(name).cloned()).map(Picture::File)
            }
            Self::Archive { archive, files } => {
                files.get(file).or_else(|| files.get(name)).map(|index| Picture::Entry(archive.clone(), *index))
            }
            Self::Listed { .. } => None,
        }
    }

    /// For messages: where pictures are looked for.
    pub fn places(&self) -> String {
        match self {
            Self::Folders { roots, .. } => {
                roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
            }
            Self::Archive { archive, .. } => archive.path.display().to_string(),
            Self::Listed { folder, .. } => folder.display().to_string(),
        }
    }
}

/// Names and paths in a folder, sorted; annotations can name neither hidden files nor names that are no text.
fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if !is_hidden(&path)
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            found.push((name.to_string(), path));
        }
    }
    found.sort();
    Ok(found)
}
