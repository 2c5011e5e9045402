//! What was submitted of a run, so that it is not submitted twice.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::error::usage;
use crate::runtime::write_whole;

/// What `job.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The number of shards.
    pub tasks: usize,
    /// The job arrays, the last one last.
    pub arrays: Vec<Array>,
    /// The job that merges.
    #[serde(default)]
    pub merge: Option<String>,
}

/// A job array; its tasks are numbered as the shards are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    pub job: String,
    pub shards: Vec<usize>,
}

impl Record {
    /// What was submitted from this folder, if anything was.
    ///
    /// # Errors
    /// A file that cannot be read, or is no record.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = file(folder);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let record = serde_json::from_slice(&text);
        record.map(Some).map_err(|error| usage(format!("{} is damaged ({error}): remove it", path.display())))
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        write_whole(&file(folder), |file| Ok(file.write_all(text.as_bytes())?))
    }

    /// Whether this shard was ever submitted.
    pub fn has(&self, shard: usize) -> bool {
        self.arrays.iter().any(|array| array.shards.contains(&shard))
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("job.json")
}
