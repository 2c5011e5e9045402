//! Pipelines in one file, as Stable Diffusion v1.5 and Stable Diffusion 3 were first published: the
//! parts that the folders of diffusers hold, under other names.
//!
//! Weights are views of the file: nothing is copied or converted on disk. What the file does not hold
//! (configurations, tokenizers, text encoders) is taken from a folder of the same name that ends in
//! `.config`, in diffusers' layout, if it stands beside the file; else configurations are those that
//! were published, and CLIP's vocabulary is built in.

mod ldm;
mod sd3;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::pipeline_part::{Part, published, published_config};
use crate::checkpoints::{Checkpoint, Entry};
use crate::models::Family;
use crate::models::family::family_of;
use crate::models::text::text_tokenizer::{TextTokenizer, optional_json};

/// A pipeline in one file.
#[derive(Debug, Clone)]
pub struct SingleFile {
    file: PathBuf,
    family: Family,
    /// Whether a T5 encoder is there and can be used, once it is known.
    t5: OnceLock<bool>,
}

/// Where a part's tensors begin in the file.
const PREFIXES: [(Family, &str, &str); 8] = [
    (Family::StableDiffusion, "unet", "model.diffusion_model"),
    (Family::StableDiffusion, "vae", "first_stage_model"),
    (Family::StableDiffusion, "text_encoder", "cond_stage_model.transformer"),
    (Family::StableDiffusion3, "transformer", "model.diffusion_model"),
    (Family::StableDiffusion3, "vae", "first_stage_model"),
    (Family::StableDiffusion3, "text_encoder", "text_encoders.clip_l.transformer"),
    (Family::StableDiffusion3, "text_encoder_2", "text_encoders.clip_g.transformer"),
    (Family::StableDiffusion3, "text_encoder_3", "text_encoders.t5xxl.transformer"),
];

impl SingleFile {
    pub fn open(file: &Path) -> Result<Self> {
        let family = family_of(file)?;
        if !family.is_generator() {
            bail!("{}: a {}, which is not a pipeline", file.display(), family.title());
        }
        Ok(Self { file: file.to_path_buf(), family, t5: OnceLock::new() })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder beside the file, which need not be there.
    pub fn companion(&self) -> PathBuf {
        self.file.with_extension("config")
    }

    /// The configuration of a part: the folder's, else the published one.
    pub fn config(&self, part: &str) -> Result<Value> {
        let name = if part == "scheduler" { "scheduler_config.json" } else { "config.json" };
        match optional_json(&self.companion().join(part).join(name))? {
            Value::Null => {
                published_config(published(self.family).context("a pipeline that was never published")?, part)
            }
            config => Ok(config),
        }
    }

    /// Whether the pipeline has an optional part. T5 needs its tokenizer, which no file holds.
    pub fn has(&self, part: &str) -> Result<bool> {
        if part != "text_encoder_3" || self.family != Family::StableDiffusion3 {
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
        PREFIXES.iter().find(|(family, name, _)| *family == self.family && *name == part).map(|(.., prefix)| *prefix)
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
        let file = std::sync::Arc::new(self.file.clone());
        let whole = match (self.family, part.folder) {
            (Family::StableDiffusion, "unet") => {
                let layers = self.number("unet", "layers_per_block")?;
                all.convert(|name, entry| ldm::unet(name, entry, layers))
            }
            (Family::StableDiffusion3, "transformer") => {
                let layers = self.number("transformer", "num_layers")?;
                all.convert(|name, entry| sd3::transformer(name, entry, layers))
            }
            (_, "vae") => {
                let config = self.config("vae")?;
                let sizes = config["block_out_channels"].as_array().map_or(1, Vec::len);
                all.convert(|name, entry| ldm::vae(name, entry, sizes))
            }
            (_, "text_encoder") => all.convert(ldm::clip),
            _ => Ok(all),
        }?;
        // The projection of the smaller encoder is left out where it changes nothing.
        let projection = "text_projection.weight";
        let missing = part.folder == "text_encoder" && whole.entry(projection).is_none();
        if self.family == Family::StableDiffusion3 && missing {
            let size = self.number("text_encoder", "projection_dim")? as i64;
            return Ok(whole.with(projection, Entry::identity(size, file)));
        }
        Ok(whole)
    }

    fn beside(&self, part: Part) -> Result<Checkpoint> {
        let folder = self.companion().join(part.folder);
        if folder.is_dir() {
            return Checkpoint::open_dir(&folder, part.stem);
        }
        let whole = match self.family {
            Family::StableDiffusion3 => {
                "use sd3_medium_incl_clips.safetensors or one of sd3_medium_incl_clips_t5xxl*.safetensors, \
                 which hold the text encoders"
            }
            _ => "use a file of the whole pipeline (v1-5-pruned-emaonly.safetensors)",
        };
        bail!("{}: no {} in it: {whole}, or put its folder at {}", self.file.display(), part.folder, folder.display())
    }

    fn number(&self, part: &str, option: &str) -> Result<usize> {
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
        let encoders: &[(&str, &str, &str)] = match self.family {
            Family::StableDiffusion3 => {
                &[("tokenizer", "text_encoder", "<|endoftext|>"), ("tokenizer_2", "text_encoder_2", "!")]
            }
            _ => &[("tokenizer", "text_encoder", "<|endoftext|>")],
        };
        let mut tokenizers: Vec<TextTokenizer> = Vec::new();
        for (tokenizer, encoder, pad) in encoders {
            let positions = self.number(encoder, "max_position_embeddings")?;
            let folder = self.companion().join(tokenizer);
            let next = if folder.is_dir() {
                TextTokenizer::clip(&folder, positions)?
            } else {
                TextTokenizer::published_clip(positions, pad)?
            };
            let length = tokenizers.first().map_or(next.length(), TextTokenizer::length);
            tokenizers.push(next.with_length(length));
        }
        Ok(tokenizers)
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
