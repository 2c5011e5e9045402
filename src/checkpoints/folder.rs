//! Which files of a model folder hold its weights.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::foreign;

/// The weight files of a folder in the Hugging Face layout. Whole precision is preferred to the
/// `.fp16` variant, safetensors to pickles.
pub fn files_of_dir(dir: &Path, stem: &str) -> Result<Vec<PathBuf>> {
    for name in candidates(stem) {
        let path = dir.join(&name);
        if path.is_file() {
            return if name.ends_with(".json") { shards(&path) } else { Ok(vec![path]) };
        }
    }
    if !dir.is_dir() {
        bail!("{}: no such folder", dir.display());
    }
    bail!(
        "{}: no weights here: neither {stem}.safetensors nor {stem}.safetensors.index.json nor .bin files",
        dir.display()
    )
}

fn candidates(stem: &str) -> Vec<String> {
    let mut names = Vec::new();
    let pickled: &[&str] = if stem == "model" { &["pytorch_model", "model"] } else { &[stem] };
    let formats = [(&[stem][..], "safetensors"), (pickled, "bin")];
    for (stems, extension) in formats {
        for stem in stems {
            names.push(format!("{stem}.{extension}"));
            names.push(format!("{stem}.{extension}.index.json"));
            names.push(format!("{stem}.fp16.{extension}"));
            names.push(format!("{stem}.{extension}.index.fp16.json"));
        }
    }
    names
}

#[derive(Deserialize)]
struct Index {
    /// Tensor → file.
    weight_map: std::collections::BTreeMap<String, String>,
}

fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let text = std::fs::read(index).with_context(|| format!("cannot read {}", index.display()))?;
    let parsed: Index = serde_json::from_slice(&text)
        .map_err(|error| foreign::explain_unless_json(&text).unwrap_or(error.into()))
        .with_context(|| format!("{} is not a valid index of shards", index.display()))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        bail!("{}: it lists no files", index.display());
    }
    let mut files = Vec::new();
    for name in names {
        let mut parts = Path::new(&name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            bail!("{}: {name:?} is not the name of a file beside it", index.display());
        }
        let file = index.with_file_name(&name);
        if !file.is_file() {
            bail!("{}: {name} is listed but not there: an incomplete download?", index.display());
        }
        files.push(file);
    }
    Ok(files)
}
