//! Pictures inside a zip archive, read in place: nothing is unpacked, and threads do not wait for each other.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use zip::ZipArchive;

use crate::images::{MAX_FILE_BYTES, check_file_size};
use crate::runtime::MappedFile;

#[derive(Clone)]
struct Bytes(Arc<MappedFile>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// An open archive. Its names are only ever compared, never used as paths.
pub struct Archive {
    pub path: PathBuf,
    /// The table of contents; a clone shares it and has a read position of its own.
    zip: ZipArchive<Cursor<Bytes>>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Archive({})", self.path.display())
    }
}

impl Archive {
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let bytes = MappedFile::open(path).with_context(|| format!("cannot open {shown}"))?;
        let zip = ZipArchive::new(Cursor::new(Bytes(Arc::new(bytes))))
            .with_context(|| format!("{shown} is no whole zip archive: download it again"))?;
        Ok(Self { path: path.to_path_buf(), zip })
    }

    /// The files directly inside `folder` (empty: at the top), by name.
    pub fn files_of(&self, folder: &str) -> Result<BTreeMap<String, usize>> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{}/", folder.trim_end_matches('/')) };
        let mut files = BTreeMap::new();
        let mut folders = std::collections::BTreeSet::new();
        for index in 0..self.zip.len() {
            let Some(name) = self.zip.name_for_index(index) else { continue };
            folders.extend(name.rsplit_once('/').map(|(folder, _)| folder));
            if let Some(file) = name.strip_prefix(&prefix).filter(|file| !file.is_empty() && !file.contains('/')) {
                files.insert(file.to_string(), index);
            }
        }
        if files.is_empty() {
            let found: Vec<&str> = folders.into_iter().take(3).collect();
            let found = if found.is_empty() { "no folders".to_string() } else { found.join(", ") };
            bail!("{} has no files in a folder {folder} (it has {found})", self.path.display());
        }
        Ok(files)
    }

    /// Every file, by its whole name, and by its own name without folders where no other file has it.
    pub fn all_files(&self) -> BTreeMap<String, usize> {
        let names = || (0..self.zip.len()).filter_map(|index| Some((self.zip.name_for_index(index)?, index)));
        let is_file = |name: &str| !name.ends_with('/');
        let mut short: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        for (name, index) in names().filter(|(name, _)| is_file(name)) {
            let own = name.rsplit('/').next().unwrap_or(name);
            short.entry(own).and_modify(|place| *place = None).or_insert(Some(index));
        }
        let short = short.into_iter().filter_map(|(name, index)| Some((name.to_string(), index?)));
        let whole = names().filter(|(name, _)| is_file(name)).map(|(name, index)| (name.to_string(), index));
        short.chain(whole).collect()
    }

    /// For messages: `NAME in ARCHIVE`.
    pub fn name(&self, index: usize) -> String {
        let name = self.zip.name_for_index(index).unwrap_or_default();
        format!("{} in {}", name.escape_debug(), self.path.display())
    }

    /// The bytes of one file; its checksum is verified.
    pub fn read(&self, index: usize) -> Result<Vec<u8>> {
        let mut zip = self.zip.clone();
        let mut file = zip.by_index(index).with_context(|| format!("a damaged entry in {}", self.path.display()))?;
        let name = self.name(index);
        let mut read = || -> Result<Vec<u8>> {
            check_file_size(file.size())?;
            // What the archive says of a size need not be true.
            let mut bytes = Vec::with_capacity((file.size() as usize).min(1 << 24));
            (&mut file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
            check_file_size(bytes.len() as u64)?;
            Ok(bytes)
        };
        read().with_context(|| format!("cannot read picture {name}"))
    }
}
