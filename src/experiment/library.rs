//! The built-in experiments: every `experiments/*.toml` of the repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::error::{nearest, usage};
use crate::runtime::{home, is_hidden};

/// A built-in experiment.
#[derive(Debug)]
pub struct Found {
    pub name: String,
    pub file: PathBuf,
    /// What it asks.
    pub question: String,
}

/// All of them, sorted by name. A file that is no TOML shows without a question.
pub fn built_in() -> Result<Vec<Found>> {
    let folder = home()?.join("experiments");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let file = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if file.extension().is_some_and(|extension| extension == "toml") && !is_hidden(&file) {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let keys = fs::read_to_string(&file).ok().and_then(|text| text.parse::<toml::Table>().ok());
            let question = keys.and_then(|keys| Some(keys.get("question")?.as_str()?.to_string()));
            found.push(Found { name, file, question: question.unwrap_or_default() });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The file of an experiment: a TOML file, or the name of a built-in one.
pub fn find(name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    if name.ends_with(".toml") {
        return Err(usage(format!("there is no file {name}")));
    }
    let found = built_in()?;
    let names: Vec<&str> = found.iter().map(|experiment| experiment.name.as_str()).collect();
    let known = found.iter().find(|experiment| experiment.name == name).map(|experiment| experiment.file.clone());
    known.ok_or_else(|| {
        let near = nearest(name, names.iter().copied());
        usage(format!("no experiment is called {name:?}{near} (there are: {})", names.join(", ")))
    })
}

/// What an experiment file (or a run folder's `config.toml`) says is its kind; none when it cannot be read: then reading
/// it as a whole says why.
pub fn kind_of(file: &Path) -> Option<String> {
    let keys: toml::Table = fs::read_to_string(file).ok()?.parse().ok()?;
    Some(keys.get("kind")?.as_str()?.to_string())
}
