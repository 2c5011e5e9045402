//! What a repository offers, and what of it is needed. Which files those are is known by who reads
//! them, so that what is pulled and what is loaded cannot differ.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The files of a repository, on the hub or on this machine. Names are relative, with `/`.
pub trait Listing {
    /// Whether there is such a file.
    fn has(&self, file: &str) -> bool;

    /// The names of the files directly in a folder (`""`: the root), sorted.
    fn files_in(&self, folder: &str) -> Vec<String>;

    /// Where a file is, if it is on this machine.
    fn path(&self, file: &str) -> Option<PathBuf>;

    /// The whole of a small file.
    ///
    /// # Errors
    /// When it is not there, cannot be read or downloaded.
    fn read(&self, file: &str) -> Result<Vec<u8>>;
}

/// What is needed of a listing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Names of files that are listed; the first are fetched first.
    pub files: Vec<String>,
    /// What is needed and not listed, in words.
    pub missing: Vec<String>,
}

/// Knows which files of a repository are needed.
pub trait Contents {
    /// What loading reads of this repository.
    ///
    /// # Errors
    /// When it can never be loaded: its configuration is no JSON, or says something unknown.
    fn needed(&self, listing: &dyn Listing) -> Result<Needed>;

    /// Whether the needed files of a folder that has them all are as long as they themselves say.
    fn is_whole(&self, folder: &FolderListing) -> bool;
}

/// A folder on this machine.
#[derive(Debug, Clone)]
pub struct FolderListing(pub PathBuf);

impl Listing for FolderListing {
    fn has(&self, file: &str) -> bool {
        self.0.join(file).is_file()
    }

    fn files_in(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.0.join(folder)) else { return Vec::new() };
        let files = entries.flatten().filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn path(&self, file: &str) -> Option<PathBuf> {
        Some(self.0.join(file)).filter(|path| path.is_file())
    }

    fn read(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.0.join(file);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}
