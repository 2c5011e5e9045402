//! Where the parts of a text-to-image pipeline come from: a folder in diffusers' layout, or, to measure
//! speed, random weights at the published size.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use tch::{Device, Kind};

use super::lora::Adaptable;
use super::pipeline_part::{Part, Published, Shapes};
use super::single_file::{SingleFile, SingleFileLayout};
use crate::checkpoints::{Checkpoint, Entry, Places, Weights, config};
use crate::models::text::text_tokenizer::{TextTokenizer, clip_tokenizers};
use crate::runtime::{Precision, log_moment};
use crate::schedulers::{Scheduler, SchedulerName};

/// Where configurations and weights come from.
#[derive(Debug, Clone)]
pub enum PipelineSource {
    /// What `save_pretrained` of diffusers writes.
    Folder(PathBuf),
    /// One file of the original layout.
    SingleFile(SingleFile),
    /// The published sizes, with weights that are drawn on the device.
    Random(RandomSource),
}

/// A published pipeline with random weights.
#[derive(Debug, Clone)]
pub struct RandomSource {
    published: Published,
    /// Of each part that was built so that it can be changed: the shapes of its weights, which no file says.
    shapes: Arc<Mutex<BTreeMap<&'static str, Shapes>>>,
}

impl RandomSource {
    fn note(&self, part: Part, shapes: Shapes) {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner).insert(part.folder, shapes);
    }

    fn shapes(&self, part: Part) -> Shapes {
        let shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.get(part.folder).cloned().unwrap_or_default()
    }
}

impl PipelineSource {
    /// What lies at `path`: a folder in diffusers' layout, or one file of this layout.
    pub fn at(path: &Path, layout: &'static SingleFileLayout) -> Self {
        if path.is_file() {
            return Self::SingleFile(SingleFile::new(path, layout));
        }
        Self::Folder(path.to_path_buf())
    }

    /// Random weights at these sizes.
    pub fn random(published: Published) -> Self {
        Self::Random(RandomSource { published, shapes: Arc::default() })
    }

    /// Whether its weights are random, and so are those of what steers it.
    pub fn is_random(&self) -> bool {
        matches!(self, Self::Random(_))
    }

    /// The configuration of a part: `config.json`, or `scheduler_config.json` of the scheduler.
    pub fn config<T: DeserializeOwned>(&self, part: &str) -> Result<T> {
        match self {
            Self::Random(random) => config::take(random.published.config(part)?),
            Self::SingleFile(single) => config::take(single.config(part)?)
                .with_context(|| format!("{}: the configuration of {part}", single.file().display())),
            Self::Folder(folder) => {
                let name = if part == "scheduler" { "scheduler_config.json" } else { "config.json" };
                config::read(&folder.join(part).join(name))
            }
        }
    }

    /// The solver that the pipeline was published with, or another one over the same noise schedule.
    pub fn scheduler(&self, name: Option<SchedulerName>) -> Result<Scheduler> {
        match self {
            Self::Random(_) => Scheduler::new(&self.config("scheduler")?, name),
            Self::Folder(folder) => Scheduler::from_config(&folder.join("scheduler/scheduler_config.json"), name),
            Self::SingleFile(single) => {
                let beside = single.companion().join("scheduler/scheduler_config.json");
                if beside.is_file() {
                    return Scheduler::from_config(&beside, name);
                }
                Scheduler::new(&self.config("scheduler")?, name)
            }
        }
    }

    /// Whether the pipeline has a part: `model_index.json` says `[null, null]` of one that was left out.
    pub fn has(&self, part: &str) -> Result<bool> {
        let index = match self {
            Self::SingleFile(single) => return single.has(part),
            Self::Random(random) => random.published.config("model_index")?,
            Self::Folder(folder) => config::read(&folder.join("model_index.json"))?,
        };
        Ok(index[part][1].is_string())
    }

    /// The place to build a part from.
    pub fn weights(&self, part: Part, device: Device, kind: Kind) -> Result<Weights> {
        match self {
            Self::Random(_) => Ok(Weights::random(device, kind)),
            _ => Ok(self.tensors(part)?.weights(device, kind)),
        }
    }

    /// The tensors of a part under diffusers' names.
    pub fn tensors(&self, part: Part) -> Result<Checkpoint> {
        match self {
            Self::Random(_) => bail!("random weights have no file"),
            Self::SingleFile(single) => single.part(part),
            Self::Folder(folder) => Checkpoint::open_dir(&folder.join(part.folder), part.stem),
        }
    }

    /// The shapes of a part's weights under diffusers' names. Random ones are known once they are built.
    pub fn shapes(&self, part: Part) -> Result<Shapes> {
        if let Self::Random(random) = self {
            return Ok(random.shapes(part));
        }
        let tensors = self.tensors(part)?;
        let shape = |name: &str| Some((name.to_string(), tensors.entry(name)?.shape.clone()));
        Ok(tensors.names().filter_map(shape).collect())
    }

    /// Builds a part with `new`, from all of its weights (see [`Weights::build`]).
    pub fn build<T>(&self, part: Part, device: Device, kind: Kind, new: impl Fn(&Weights) -> Result<T>) -> Result<T> {
        let model = self.weights(part, device, kind)?.build(new);
        log_moment(&format!("{} is on {device:?}", part.folder));
        match self {
            Self::SingleFile(single) => model.with_context(|| single.sizes_of(part)),
            _ => model,
        }
    }

    /// The same, so that its weights can be changed later.
    pub fn build_adaptable<T>(
        &self,
        part: Part,
        device: Device,
        precision: impl Into<Precision>,
        new: impl Fn(&Weights) -> Result<T>,
    ) -> Result<(T, Adaptable)> {
        let Precision { kind, float8 } = precision.into();
        let places = Places::default();
        let built = self.build(part, device, kind, |weights| new(&weights.noted_in(&places).in_float8(float8)))?;
        if let Self::Random(random) = self {
            random.note(part, places.shapes());
        }
        let is_kept = float8 && !self.is_random();
        let originals = is_kept.then(|| self.tensors(part)).transpose()?;
        Ok((built, Adaptable::new(part, places, originals.map(|tensors| (tensors, kind)))))
    }

    /// The tokenizers of the CLIP encoders, in their order.
    pub fn clip_tokenizers(&self) -> Result<Vec<TextTokenizer>> {
        match self {
            Self::Random(_) => bail!("random weights have no tokenizer"),
            Self::Folder(folder) => clip_tokenizers(folder),
            Self::SingleFile(single) => single.clip_tokenizers(),
        }
    }

    /// The tokenizer of T5, filled or cut to `length` tokens.
    pub fn t5_tokenizer(&self, length: usize) -> Result<TextTokenizer> {
        match self {
            Self::Random(_) => bail!("random weights have no tokenizer"),
            Self::Folder(folder) => TextTokenizer::t5(&folder.join("tokenizer_3"), length),
            Self::SingleFile(single) => single.t5_tokenizer(length),
        }
    }

    /// Bytes that a part takes on the device.
    pub fn bytes(&self, part: Part, kind: Kind) -> Result<u64> {
        let parameters = match self {
            Self::Random(random) => {
                random.published.config(part.folder)?["parameters"].as_u64().unwrap_or(part.parameters)
            }
            _ => numbers(&self.tensors(part)?),
        };
        Ok(parameters * kind.elt_size_in_bytes() as u64)
    }
}

/// Numbers in all tensors.
fn numbers(checkpoint: &Checkpoint) -> u64 {
    let size = |name| checkpoint.entry(name).map_or(0, Entry::len);
    checkpoint.names().map(size).sum::<i64>() as u64
}
