//! Which files of a folder a loader reads, noted one after another; what each family needs is said in its own folder.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::checkpoints::{is_index, no_weights, shards_of_index, weights_name};
use crate::hub::{FolderListing, Listing, Needed};

/// Parts of a pipeline that nothing here uses unless it is asked for.
const UNUSED_PARTS: [&str; 3] = ["safety_checker", "feature_extractor", "image_encoder"];

/// Alternatives, the preferred first; each is a set of files that belong together.
pub type AnyOf = &'static [&'static [&'static str]];

/// Files that a tokenizer or an image processor is read from.
pub const CLIP_TOKENIZER: AnyOf = &[&["vocab.json", "merges.txt"], &["tokenizer.json"]];
const T5_TOKENIZER: AnyOf = &[&["tokenizer.json"], &["spiece.model"]];
pub const BERT_TOKENIZER: AnyOf = &[&["tokenizer.json"], &["vocab.txt"]];
pub const BPE_TOKENIZER: AnyOf = &[&["tokenizer.json"]];
pub const PROCESSOR: AnyOf = &[&["preprocessor_config.json"], &["processor_config.json"]];

/// The needed files of a listing, as far as they are found.
pub struct Found<'a> {
    /// What the repository or folder has.
    pub listing: &'a dyn Listing,
    /// Files but for weights, and what is missing.
    pub needed: Needed,
    /// Large: they are fetched last, so that a folder that has them has the rest too.
    pub weights: Vec<String>,
}

impl<'a> Found<'a> {
    /// Nothing yet.
    pub fn of(listing: &'a dyn Listing) -> Self {
        Self { listing, needed: Needed::default(), weights: Vec::new() }
    }

    /// Those of a pipeline, by what its index says; without the `needed` parts its folder is none, whatever the
    /// index lists.
    pub fn pipeline(&mut self, index: &Value, needed: &[&str]) -> Result<()> {
        let mut parts = parts_of(index)?;
        for part in needed {
            if !parts.iter().any(|(name, _)| name == part) {
                parts.push((part.to_string(), String::new()));
            }
        }
        for (part, library) in &parts {
            self.texts(part);
            match part.as_str() {
                "scheduler" => self.any_of(part, &[&["scheduler_config.json"]]),
                "tokenizer_3" => self.any_of(part, T5_TOKENIZER),
                name if name.starts_with("tokenizer") => self.any_of(part, CLIP_TOKENIZER),
                name => {
                    self.any_of(part, &[&["config.json"]]);
                    let encoder = name.starts_with("text_encoder") || library == "transformers";
                    self.weights(part, if encoder { "model" } else { "diffusion_pytorch_model" })?;
                }
            }
        }
        Ok(())
    }

    /// Small text files: who reads which differs between this program and Python's libraries, which
    /// may read the same cache.
    pub fn texts(&mut self, folder: &str) {
        const ENDINGS: [&str; 4] = [".json", ".txt", ".model", ".jinja"];
        let is_text = |file: &String| ENDINGS.iter().any(|ending| file.ends_with(ending));
        let is_index = |file: &String| file.contains(".index.");
        let texts = self.listing.files_in(folder).into_iter().filter(|file| is_text(file) && !is_index(file));
        self.needed.files.extend(texts.map(|file| inside(folder, &file)));
    }

    /// The first of these sets that is there whole.
    pub fn any_of(&mut self, folder: &str, sets: AnyOf) {
        let is_there = |set: &&&[&str]| set.iter().all(|file| self.listing.has(&inside(folder, file)));
        match sets.iter().find(is_there) {
            Some(set) => self.needed.files.extend(set.iter().map(|file| inside(folder, file))),
            None => {
                self.needed.missing.push(in_words(folder, sets));
            }
        }
    }

    /// Weights of this name, in one file or in shards with their index.
    pub fn weights(&mut self, folder: &str, stem: &str) -> Result<()> {
        let Some(name) = weights_name(stem, |name| self.listing.has(&inside(folder, name))) else {
            let place = if folder.is_empty() { String::new() } else { format!("in {folder}/: ") };
            self.needed.missing.push(format!("{place}{}", no_weights(stem).trim_start_matches("no ")));
            return Ok(());
        };
        let name = inside(folder, &name);
        if !is_index(&name) {
            self.weights.push(name);
            return Ok(());
        }
        for shard in shards_of_index(&self.listing.read(&name)?, Path::new(&name))? {
            let shard = inside(folder, &shard);
            let list = if self.listing.has(&shard) { &mut self.weights } else { &mut self.needed.missing };
            list.push(shard);
        }
        self.needed.files.push(name);
        Ok(())
    }

    /// All of it, in a stable order.
    pub fn finish(mut self) -> Needed {
        self.needed.files.sort();
        self.needed.files.dedup();
        self.needed.files.append(&mut self.weights);
        self.needed
    }
}

pub fn inside(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_string() } else { format!("{folder}/{file}") }
}

/// `tokenizer/vocab.json + tokenizer/merges.txt or tokenizer/tokenizer.json`.
fn in_words(folder: &str, sets: AnyOf) -> String {
    let set = |set: &&[&str]| set.iter().map(|file| inside(folder, file)).collect::<Vec<_>>().join(" + ");
    sets.iter().map(set).collect::<Vec<_>>().join(" or ")
}

pub fn json(listing: &dyn Listing, file: &str) -> Result<Value> {
    serde_json::from_slice(&listing.read(file)?).with_context(|| format!("{file} is not valid JSON"))
}

/// The folders that a `model_index.json` lists, with the library that knows their class:
/// `"vae": ["diffusers", "AutoencoderKL"]`.
///
/// # Errors
/// When a name leads out of the pipeline's folder.
fn parts_of(index: &Value) -> Result<Vec<(String, String)>> {
    let mut parts = Vec::new();
    for (name, class) in index.as_object().into_iter().flatten() {
        let Some([Value::String(library), Value::String(_)]) = class.as_array().map(Vec::as_slice) else { continue };
        if UNUSED_PARTS.contains(&name.as_str()) {
            continue;
        }
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            bail!("model_index.json: the part {name:?} is not the name of a folder beside it");
        }
        parts.push((name.clone(), library.clone()));
    }
    Ok(parts)
}

/// The parts of a pipeline's folder that are used here.
pub fn parts_of_folder(folder: &Path) -> Result<Vec<String>> {
    let index = json(&FolderListing(folder.to_path_buf()), "model_index.json")
        .and_then(|index| parts_of(&index))
        .with_context(|| folder.display().to_string())?;
    Ok(index.into_iter().map(|(name, _)| name).collect())
}
