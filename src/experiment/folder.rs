//! The folder that a run writes: made or continued, and held against every other process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::settings::Settings;
use crate::error::usage;
use crate::run::guard;
use crate::runtime::write_whole;

/// A run folder that this process alone may write to.
#[derive(Debug)]
pub struct RunFolder {
    pub dir: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes or continues the folder. Its configuration is written first; a folder that holds
    /// another configuration, or links, is wrong usage.
    pub fn open<S: Settings>(dir: &Path, config: &S) -> Result<Self> {
        let shown = dir.display();
        fs::create_dir_all(dir).with_context(|| format!("cannot make the run folder {shown}"))?;
        guard::check(dir)?;
        let Some(lock) = guard::hold(dir)? else {
            return Err(usage(format!("{shown}: another process is writing this run")));
        };
        if held(dir, config)?.is_none() && dir.join("items.csv").exists() {
            return Err(usage(format!("{shown} has an items.csv but no config.toml: choose another --out")));
        }
        let folder = Self { dir: dir.to_path_buf(), _lock: lock };
        guard::tidy(dir)?;
        let text = toml::to_string(config)?;
        write_whole(&folder.path("config.toml"), |file| Ok(std::io::Write::write_all(file, text.as_bytes())?))?;
        Ok(folder)
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    /// Makes a folder inside.
    pub fn make(&self, relative: &str) -> Result<()> {
        let path = self.path(relative);
        fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))
    }
}

/// The configuration in a folder, if one is there: it is of the run that is asked for, else that is wrong usage.
pub(super) fn held<S: Settings>(dir: &Path, asked: &S) -> Result<Option<S>> {
    let file = dir.join("config.toml");
    if !file.exists() {
        return Ok(None);
    }
    let held = S::from_run(&file)?;
    match difference(&held, asked)? {
        Some(difference) => {
            Err(usage(format!("{} holds another run: {difference}; choose another --out", dir.display())))
        }
        None => Ok(Some(held)),
    }
}

/// What differs between two configurations in a way that changes results, as `KEY is A there, B here`.
pub fn difference<S: Settings>(held: &S, asked: &S) -> Result<Option<String>> {
    let held = held.but_for_what_may_change(asked);
    let (mut before, mut now) = (Vec::new(), Vec::new());
    flatten("", &toml::Value::try_from(&held)?, &mut before);
    flatten("", &toml::Value::try_from(asked)?, &mut now);
    let value = |list: &[(String, String)], key: &str| {
        list.iter().find(|(name, _)| name == key).map_or("not set".to_string(), |(_, value)| value.clone())
    };
    let first = before.iter().chain(&now).map(|(key, _)| key).find(|key| value(&before, key) != value(&now, key));
    Ok(first.map(|key| format!("{key} is {} there and {} here", value(&before, key), value(&now, key))))
}

/// A configuration as dotted keys.
fn flatten(prefix: &str, value: &toml::Value, into: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                flatten(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, into);
            }
        }
        other => into.push((prefix.to_string(), other.to_string())),
    }
}
