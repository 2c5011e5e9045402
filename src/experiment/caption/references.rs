//! What people wrote of the pictures of a run: `references/DATASET.json`, as `evaluate captions --references` takes it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::experiment::folder::RunFolder;
use crate::runtime::write_whole;

/// References of each picture, by data set and id.
pub type References = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// Writes the references of each data set into a run folder.
pub fn save(folder: &RunFolder, references: &References) -> Result<()> {
    folder.make("references")?;
    for (name, of) in references {
        let text = serde_json::to_string_pretty(of)? + "\n";
        write_whole(&folder.path(&place(name)), |file| Ok(file.write_all(text.as_bytes())?))?;
    }
    Ok(())
}

/// Reads the references of one data set out of a run folder.
pub fn read(run: &Path, dataset: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let path = run.join(place(dataset));
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

fn place(dataset: &str) -> String {
    format!("references/{dataset}.json")
}
