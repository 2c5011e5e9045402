//! Pipelines in one file, as Stable Diffusion v1.5 and Stable Diffusion 3 were first published: the
//! parts that the folders of diffusers hold, under other names.
//!
//! Weights are views of the file: nothing is copied or converted on disk. What the file does not hold
//! (configurations, tokenizers, text encoders) is taken from a folder of the same name that ends in
//! `.config`, in diffusers' layout, if it stands beside the file; else configurations are those that
//! were published, and CLIP's vocabulary is built in.

pub mod ldm;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde_json::Value;

use super::pipeline_part::{Part, Published, published_config};
use crate::checkpoints::Checkpoint;
use crate::models::text::text_tokenizer::{TextTokenizer, optional_json};

/// How a family's pipelines lie in one file, and what is published of them beside it.
#[derive(Debug)]
pub struct SingleFileLayout {
    /// The published configurations: JSON, by the name of the part.
    pub published: &'static str,
    /// The parts in which other built-in models of the family differ, by the model's name.
    pub variants: &'static [(&'static str, &'static str)],
    /// A part's configuration as the file's tensors of it (without the prefix) have it, of the published one.
    pub sized: fn(&str, &Checkpoint, Value) -> Value,
    /// The parts that a file may hold, and where each one's tensors begin.
    pub prefixes: &'static [(&'static str, &'static str)],
    /// A part's tensors (its name, without the prefix) under diffusers' names, see [`SingleFile::shared`].
    pub convert: fn(&SingleFile, &str, Checkpoint) -> Result<Checkpoint>,
    /// Which file holds a part that is missing.
    pub whole: &'static str,
    /// Tokenizer, text encoder and padding of each CLIP encoder.
    pub clip: &'static [(&'static str, &'static str, &'static str)],
    /// The part that counts only where its tokenizer, which no file holds, is beside the file.
    pub t5: Option<&'static str>,
}

impl SingleFileLayout {
    /// What was published of the built-in model of this name.
    pub fn published_as(&self, name: &str) -> Published {
        let own = self.variants.iter().find(|(variant, _)| *variant == name);
        Published { family: self.published, own: own.map_or("{}", |(_, own)| own) }
    }
}

/// A pipeline in one file.
#[derive(Debug, Clone)]
pub struct SingleFile {
    file: PathBuf,
    layout: &'static SingleFileLayout,
    /// Whether a T5 encoder is there and can be used, once it is known.
    t5: OnceLock<bool>,
}

impl SingleFile {
    pub fn new(file: &Path, layout: &'static SingleFileLayout) -> Self {
        Self { file: file.to_path_buf(), layout, t5: OnceLock::new() }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder beside the file, which need not be there.
    pub fn companion(&self) -> PathBuf {
        self.file.with_extension("config")
    }

    /// The configuration of a part: the folder's, else the published one at the sizes that the file has.
    pub fn config(&self, part: &str) -> Result<Value> {
        let name = if part == "scheduler" { "scheduler_config.json" } else { "config.json" };
        match optional_json(&self.companion().join(part).join(name))? {
            Value::Null => {
                let published = published_config(self.layout.published, part)?;
                let Some(prefix) = self.prefix(part) else { return Ok(published) };
                Ok((self.layout.sized)(part, &Checkpoint::open(&[&self.file])?.below(prefix)?, published))
            }
            config => Ok(config),
        }
    }

    /// Whether the pipeline has an optional part.
    pub fn has(&self, part: &str) -> Result<bool> {
        if self.layout.t5 != Some(part) {
            return Ok(optional_json(&self.companion().join("model_index.json"))?[part][1].is_string());
        }
        if let Some(known) = self.t5.get() {
            return Ok(*known);
        }
        let there = self.holds(part)? || self.companion().join(part).is_dir();
        let usable = there && self.t5_folder().is_some();
        if there && !usable {
            tracing::warn!(
                "{} holds T5 but not its tokenizer, so pictures are drawn without T5: put tokenizer_3/ (or its \
                 spiece.model) into {}",
                self.file.display(),
                self.companion().display()
            );
        }
        Ok(*self.t5.get_or_init(|| usable))
    }

    fn prefix(&self, part: &str) -> Option<&'static str> {
        self.layout.prefixes.iter().find(|(name, _)| *name == part).map(|(_, prefix)| *prefix)
    }

    /// Whether the file has tensors of this part.
    fn holds(&self, part: &str) -> Result<bool> {
        let Some(prefix) = self.prefix(part) else { return Ok(false) };
        let prefix = format!("{prefix}.");
        Ok(Checkpoint::open(&[&self.file])?.names().any(|name| name.starts_with(&prefix)))
    }

    /// The tensors of a part under diffusers' names; of a part that is not in the file, those of the folder.
    pub fn part(&self, part: Part) -> Result<Checkpoint> {
        let Some(prefix) = self.prefix(part.folder) else { return self.beside(part) };
        let all = Checkpoint::open(&[&self.file])?.below(prefix)?;
        if all.names().next().is_none() {
            return self.beside(part);
        }
        (self.layout.convert)(self, part.folder, all)
    }

    /// The tensors of a part as most families have them: of autoencoder and first text encoder under diffusers' names, of
    /// others as they are called.
    pub fn shared(&self, part: &str, tensors: Checkpoint) -> Result<Checkpoint> {
        match part {
            "vae" => {
                let config = self.config("vae")?;
                let sizes = config["block_out_channels"].as_array().map_or(1, Vec::len);
                tensors.convert(|name, entry| ldm::vae(name, entry, sizes))
            }
            "text_encoder" => tensors.convert(ldm::clip),
            _ => Ok(tensors),
        }
    }

    fn beside(&self, part: Part) -> Result<Checkpoint> {
        let folder = self.companion().join(part.folder);
        if folder.is_dir() {
            return Checkpoint::open_dir(&folder, part.stem);
        }
        let whole = self.layout.whole;
        bail!("{}: no {} in it: {whole}, or put its folder at {}", self.file.display(), part.folder, folder.display())
    }

    /// A number of a part's configuration.
    pub fn number(&self, part: &str, option: &str) -> Result<usize> {
        let config = self.config(part)?;
        let number = config[option].as_u64().with_context(|| format!("{part}: no {option} in its configuration"))?;
        Ok(number as usize)
    }

    /// Where the sizes of a part come from, to explain that they do not fit.
    pub fn sizes_of(&self, part: Part) -> String {
        let config = self.companion().join(part.folder).join("config.json");
        if config.is_file() {
            return format!("{} with the configuration {}", part.folder, config.display());
        }
        format!("{} with the published configuration (one of its own belongs at {})", part.folder, config.display())
    }

    /// The tokenizers of the CLIP encoders, of one length.
    pub fn clip_tokenizers(&self) -> Result<Vec<TextTokenizer>> {
        let read = |(tokenizer, encoder, pad): &(&str, &str, &str)| {
            let positions = self.number(encoder, "max_position_embeddings")?;
            let folder = self.companion().join(tokenizer);
            match folder.is_dir() {
                true => TextTokenizer::clip(&folder, positions),
                false => TextTokenizer::published_clip(positions, pad),
            }
        };
        let read: Vec<Result<TextTokenizer>> = self.layout.clip.par_iter().map(read).collect();
        let tokenizers: Vec<TextTokenizer> = read.into_iter().collect::<Result<_>>()?;
        let length = tokenizers.first().map_or(0, TextTokenizer::length);
        Ok(tokenizers.into_iter().map(|tokenizer| tokenizer.with_length(length)).collect())
    }

    /// The tokenizer of T5, filled or cut to `length` tokens.
    pub fn t5_tokenizer(&self, length: usize) -> Result<TextTokenizer> {
        let folder = self.t5_folder().with_context(|| format!("{}: no tokenizer of T5", self.file.display()))?;
        TextTokenizer::t5(&folder, length)
    }

    /// Where T5's tokenizer is: in the folder of the file, or beside the file.
    fn t5_folder(&self) -> Option<PathBuf> {
        let beside = self.file.parent().unwrap_or(Path::new("")).to_path_buf();
        let has = |folder: &PathBuf, name: &str| folder.join(name).is_file();
        for place in [self.companion(), beside] {
            let own = place.join("tokenizer_3");
            if has(&own, "tokenizer.json") || has(&own, "spiece.model") {
                return Some(own);
            }
            // Beside a `tokenizer.json`, which may be of any model, it would not be read.
            if has(&place, "spiece.model") && !has(&place, "tokenizer.json") {
                return Some(place);
            }
        }
        None
    }
}
