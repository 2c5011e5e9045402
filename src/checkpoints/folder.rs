//! Which files of a model folder hold its weights.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::foreign;

/// The weight files of a folder in the Hugging Face layout. Whole precision is preferred to the
/// `.fp16` and `.bf16` variants, safetensors to pickles, one file to shards.
pub fn files_of_dir(dir: &Path, stem: &str) -> Result<Vec<PathBuf>> {
    let Some(name) = weights_name(stem, |name| dir.join(name).is_file()) else {
        if !dir.is_dir() {
            bail!("{}: no such folder", dir.display());
        }
        bail!("{}: {}", dir.display(), no_weights(stem));
    };
    let path = dir.join(&name);
    if !is_index(&name) {
        return Ok(vec![path]);
    }
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let files: Vec<PathBuf> = shards_of_index(&text, &path)?.iter().map(|shard| dir.join(shard)).collect();
    if let Some(missing) = files.iter().find(|file| !file.is_file()) {
        let name = missing.file_name().unwrap_or_default().to_string_lossy();
        bail!("{}: {name} is listed but not there: an incomplete download?", path.display());
    }
    Ok(files)
}

/// The name under which a folder's weights, or the index of their shards, are: the preferred one of
/// those that are there.
pub fn weights_name(stem: &str, is_there: impl Fn(&str) -> bool) -> Option<String> {
    candidates(stem).into_iter().find(|name| is_there(name))
}

/// What is said where there are none.
pub fn no_weights(stem: &str) -> String {
    format!("no weights here: neither {stem}.safetensors nor {stem}.safetensors.index.json nor .bin files")
}

/// Whether weights of this name are an index of shards.
pub fn is_index(name: &str) -> bool {
    name.ends_with(".json")
}

fn candidates(stem: &str) -> Vec<String> {
    let mut names = Vec::new();
    let pickled: &[&str] = if stem == "model" { &["pytorch_model", "model"] } else { &[stem] };
    let formats = [(&[stem][..], "safetensors"), (pickled, "bin")];
    for (stems, extension) in formats {
        for stem in stems {
            names.push(format!("{stem}.{extension}"));
            names.push(format!("{stem}.{extension}.index.json"));
            for variant in ["fp16", "bf16"] {
                names.push(format!("{stem}.{variant}.{extension}"));
                names.push(format!("{stem}.{extension}.index.{variant}.json"));
            }
        }
    }
    names
}

#[derive(Deserialize)]
struct Index {
    /// Tensor → file.
    weight_map: std::collections::BTreeMap<String, String>,
}

/// The names of the shards that an index (`text` of the file `path`) lists, sorted.
pub fn shards_of_index(text: &[u8], path: &Path) -> Result<Vec<String>> {
    let parsed: Index = serde_json::from_slice(text)
        .map_err(|error| foreign::explain_unless_json(text).unwrap_or(error.into()))
        .with_context(|| format!("{} is not a valid index of shards", path.display()))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        bail!("{}: it lists no files", path.display());
    }
    // Neither a folder of this machine nor one of the hub.
    let is_beside = |name: &String| !name.contains(['/', '\\', '\0']) && !matches!(name.as_str(), "" | "." | "..");
    if let Some(name) = names.iter().find(|name| !is_beside(name)) {
        bail!("{}: {name:?} is not the name of a file beside it", path.display());
    }
    Ok(names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_of_the_weights_is_chosen() {
        let chosen = |stem: &str, there: &[&str]| weights_name(stem, |name| there.contains(&name));
        for (stem, there, expected) in [
            ("model", &["pytorch_model.bin", "model.safetensors"][..], Some("model.safetensors")),
            (
                "model",
                &["model.fp16.safetensors", "model.safetensors.index.json"],
                Some("model.safetensors.index.json"),
            ),
            ("model", &["model.bf16.safetensors", "pytorch_model.bin"], Some("model.bf16.safetensors")),
            ("model", &["pytorch_model.fp16.bin"], Some("pytorch_model.fp16.bin")),
            ("model", &["pytorch_model.bin.index.bf16.json"], Some("pytorch_model.bin.index.bf16.json")),
            ("model", &["model.safetensors.index.fp16.json"], Some("model.safetensors.index.fp16.json")),
            ("adapter_model", &["adapter_model.bin"], Some("adapter_model.bin")),
            ("diffusion_pytorch_model", &["model.safetensors"], None),
        ] {
            assert_eq!(chosen(stem, there).as_deref(), expected, "{stem} {there:?}");
        }
    }
}
