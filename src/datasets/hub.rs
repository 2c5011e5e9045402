//! Data sets in the Hugging Face cache: `datasets--owner--name/snapshots/COMMIT/`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::usage;
use crate::models::cache_dir;

/// A path as it is; a hub id `owner/name` (or `owner/name@revision`) as its folder in the cache.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    let text = path.to_string_lossy();
    let (id, revision) = text.split_once('@').unwrap_or((&text, "main"));
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ' ']);
    let Some((owner, name)) =
        id.split_once('/').filter(|(owner, name)| plain(owner) && plain(name) && !name.contains('/'))
    else {
        return Err(usage(format!("there is no data set {text}: name its folder")));
    };
    let repo = cache_dir().join(format!("datasets--{owner}--{name}"));
    let commit = std::fs::read_to_string(repo.join("refs").join(revision));
    let commit = commit.map_or_else(|_| revision.to_string(), |commit| commit.trim().to_string());
    let folder = repo.join("snapshots").join(commit);
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(usage(format!(
        "{text} is neither a folder nor a data set in the Hugging Face cache {}: name its folder, or fetch it with \
         `hf download --repo-type dataset {id}`",
        cache_dir().display()
    )))
}
