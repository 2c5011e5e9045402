//! From a folder or file to the family of its network: told by what it holds, never by its name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::family::Family;
use super::registry::FAMILIES;
use crate::checkpoints::Checkpoint;
use crate::runtime;

/// A file that says what a folder holds.
pub struct Description {
    pub file: &'static str,
    /// Where in it the family's name is; the first that it has counts.
    pub keys: &'static [&'static str],
    /// The names that a family has there.
    names: fn(&Family) -> &'static [&'static str],
}

/// The first that a folder has counts.
pub const DESCRIPTIONS: [Description; 2] = [
    Description { file: "model_index.json", keys: &["_class_name"], names: |family| family.pipeline_classes },
    Description { file: "config.json", keys: &["model_type", "_class_name"], names: |family| family.model_types },
];

impl Description {
    /// The key that the file has, and the name there.
    pub fn name_in<'v>(&self, file: &'v Value) -> Option<(&'static str, &'v str)> {
        self.keys.iter().find_map(|key| Some((*key, file.get(key)?.as_str()?)))
    }

    /// The family of this name.
    pub fn family(&self, name: &str) -> Option<&'static Family> {
        FAMILIES.iter().copied().find(|family| (self.names)(family).contains(&name))
    }
}

/// The family of a folder, from `model_index.json` or `config.json`, or of a single checkpoint file,
/// from the names of its tensors.
pub fn family_of(path: &Path) -> Result<&'static Family> {
    if path.is_file() {
        return family_of_file(path);
    }
    for description in &DESCRIPTIONS {
        let file = path.join(description.file);
        if file.is_file() {
            let (key, name) = name_in(&file, description)?;
            return description.family(&name).with_context(|| {
                format!("{}: {key} {name:?} is not a family known here ({})", file.display(), known())
            });
        }
    }
    match metric_files(path).first() {
        Some(file) => family_of_file(file),
        None => bail!(
            "{}: neither model_index.json nor config.json nor weights of a metric net here: is it a model folder?",
            path.display()
        ),
    }
}

/// The names that families have in files, as messages list them.
pub fn known() -> String {
    let types = FAMILIES.iter().flat_map(|family| family.model_types);
    let classes = FAMILIES.iter().filter_map(|family| family.pipeline_classes.first());
    types.chain(classes).copied().collect::<Vec<_>>().join(", ")
}

fn name_in(file: &Path, description: &Description) -> Result<(&'static str, String)> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let json: Value = serde_json::from_slice(&text).with_context(|| format!("{} is not valid JSON", file.display()))?;
    match description.name_in(&json) {
        Some((key, name)) => Ok((key, name.to_string())),
        None => {
            bail!(
                "{}: no {} in it, so its family is unknown ({})",
                file.display(),
                description.keys.first().unwrap_or(&""),
                known()
            )
        }
    }
}

/// The family of a checkpoint file, from its tensors.
pub fn family_of_file(file: &Path) -> Result<&'static Family> {
    let checkpoint = Checkpoint::open(&[file])?;
    for family in FAMILIES {
        if family.has_tensor(&checkpoint) && (family.is_file)(file, &checkpoint)? {
            return Ok(family);
        }
    }
    let tensors = || FAMILIES.iter().flat_map(|family| family.tensors);
    let wrapped = tensors().find_map(|name| checkpoint.wrapped(name));
    let wrapped = wrapped.map(|text| format!(": {text}")).unwrap_or_default();
    bail!("{}: its tensors are of no family known here as a single file{wrapped}", file.display())
}

/// The checkpoint files of a metric net's folder, sorted by name.
pub fn metric_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_metric_file))
        .collect();
    files.sort();
    files
}

/// Whether a file of this name may hold a metric net's weights.
pub fn is_metric_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("pth" | "pt" | "safetensors")) && !runtime::is_hidden(Path::new(name))
}
