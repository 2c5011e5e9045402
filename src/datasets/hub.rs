//! Data sets in the Hugging Face cache: `datasets--owner--name/snapshots/COMMIT/`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::usage;
use crate::hub::{Kind, Repository, cache_dir};

/// A path as it is; a hub id `owner/name` (or `owner/name@revision`) as its folder in the cache.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    let text = path.to_string_lossy();
    let Some(repository) = Repository::parse(Kind::Dataset, &text) else {
        return Err(usage(format!("there is no data set {text}: name its folder")));
    };
    if let Some(folder) = repository.snapshot() {
        return Ok(folder);
    }
    Err(usage(format!(
        "{text} is neither a folder nor a data set in the Hugging Face cache {}: name its folder, or fetch it with \
         `hf download --repo-type dataset {}`",
        cache_dir().display(),
        repository.id()
    )))
}
