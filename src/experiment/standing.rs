//! How far a run is, as its folder tells without being opened for writing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use super::folder::held;
use super::manifest::Facts;
use super::settings::Settings;
use crate::run::layout::SUBMITTED;

/// How far the run in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of a run is there.
    Absent,
    /// It goes on where it is started again.
    Unfinished,
    Finished,
}

/// How far the run is that `asked` asks for. One that ended with a smaller limit or with other metrics is unfinished.
///
/// # Errors
/// Wrong usage: the folder holds another run.
pub fn standing<S: Settings>(dir: &Path, asked: &S) -> Result<Standing> {
    let Some(held) = held(dir, asked)? else { return Ok(Standing::Absent) };
    let all = toml::to_string(&held)? == toml::to_string(asked)?;
    Ok(if all && is_finished(dir) { Standing::Finished } else { Standing::Unfinished })
}

/// Whether a run folder holds a run that has ended.
pub fn is_finished(dir: &Path) -> bool {
    Facts::read(dir).is_ok_and(|facts| facts.finished)
}

/// Whether a merged run can be put there: nothing is, or only what was written to submit its shards.
pub fn is_free(dir: &Path) -> Result<bool> {
    let names = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(fs::symlink_metadata(dir).is_err()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(false),
        listed => listed.and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>, _>>()),
    };
    let names = names.with_context(|| format!("cannot list {}", dir.display()))?;
    Ok(names.iter().all(|name| name == SUBMITTED))
}
