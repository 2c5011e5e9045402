//! What is said of a family of networks, once: how its files are told from others, which of them its loader reads, and what
//! it is for. Each family's folder has its own; all of them stand in [`super::registry`].

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::needed_files::Found;
use super::{CaptionOptions, Captioner, MeasuredCaptioner, Outline, PhasedGenerator, Preprocess};
use crate::checkpoints::Checkpoint;
use crate::prompts::TokenBudget;
use crate::runtime::Runtime;

/// A kind of network; told by what a folder or file holds, never by its name.
#[derive(Debug)]
pub struct Family {
    pub title: &'static str,
    /// `_class_name` of `model_index.json`; messages name the first.
    pub pipeline_classes: &'static [&'static str],
    /// `model_type` of `config.json`.
    pub model_types: &'static [&'static str],
    /// Tensors each of which tells that a file by itself is of this family; of one that begins with `*` only the end.
    pub tensors: &'static [&'static str],
    /// Whether a file that has one of [`Self::tensors`] is of this family, and of no other that shares them.
    pub is_file: fn(&Path, &Checkpoint) -> Result<bool>,
    /// Notes which files its loader reads, given what `model_index.json` or `config.json` holds. Text files beside that
    /// are noted already.
    pub files: fn(&mut Found, &Value) -> Result<()>,
    pub task: Task,
}

impl PartialEq for Family {
    /// There is one of each.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Family {}

/// What a family is for, and how that is begun.
#[derive(Debug)]
pub enum Task {
    Caption(CaptionerTask),
    Generate(GeneratorTask),
    Measure(MetricNetTask),
    Adapt(AdapterTask),
}

/// What there is of a family that describes pictures.
#[derive(Debug)]
pub struct CaptionerTask {
    pub load: fn(&Path, &Runtime) -> Result<Box<dyn Captioner>>,
    /// Refuses captions that it could make of no picture; loads no weights.
    pub check: fn(&Path, &CaptionOptions) -> Result<()>,
    /// How it has photos preprocessed; loads no weights.
    pub preprocess: fn(&Path) -> Result<Option<Preprocess>>,
    /// At the published size of a built-in name, with random weights.
    pub random: fn(&str, &Runtime) -> Result<Box<dyn MeasuredCaptioner>>,
}

/// What there is of a family that draws pictures.
#[derive(Debug)]
pub struct GeneratorTask {
    pub load: fn(&Path, &Runtime) -> Result<Box<dyn PhasedGenerator>>,
    /// At the published size of a built-in name, with random weights.
    pub random: fn(&str, &Runtime) -> Result<Box<dyn PhasedGenerator>>,
    /// Without its weights.
    pub outline: fn(&Path) -> Result<Box<dyn Outline>>,
    /// The same of what [`Self::random`] makes.
    pub random_outline: fn(&str) -> Result<Box<dyn Outline>>,
    /// What fits the text encoders; reads no weights.
    pub budget: fn(&Path) -> Result<TokenBudget>,
    /// Builds all there is, what is used only when it is asked for too.
    pub verify: fn(&Path, &Runtime) -> Result<()>,
    /// Whether its noise schedule can be walked by another solver than the checkpoint's own.
    pub takes_schedulers: bool,
    /// Whether the linear layers of its denoiser can be in float8.
    pub takes_float8: bool,
}

/// A network whose features are compared. It is located by [`super::locate()`] and built where it is used.
#[derive(Debug)]
pub struct MetricNetTask {
    /// Whether ArtFID is made of it, and measured by `bench`.
    pub in_artfid: bool,
    /// Builds it; none where no configuration says what belongs to it.
    pub verify: Option<fn(&Path, &Runtime) -> Result<()>>,
}

/// What changes or steers a generator, and does nothing by itself.
#[derive(Debug)]
pub struct AdapterTask {
    /// Looks whether it is whole.
    pub verify: fn(&Path, &Runtime) -> Result<Checked>,
}

/// What came of looking at a model or an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Whether it was built: held against what says which tensors belong to it.
    pub built: bool,
    /// What an adapter is for, in a line.
    pub about: Option<String>,
}

impl Family {
    /// A metric net that is a file with one of these tensors.
    pub const fn metric_net(title: &'static str, tensors: &'static [&'static str], in_artfid: bool) -> Self {
        Self {
            title,
            pipeline_classes: &[],
            model_types: &[],
            tensors,
            is_file: |_, _| Ok(true),
            files: |_, _| Ok(()),
            task: Task::Measure(MetricNetTask { in_artfid, verify: None }),
        }
    }

    /// Whether a file has a tensor that tells that it is of this family.
    pub fn has_tensor(&self, checkpoint: &Checkpoint) -> bool {
        self.tensors.iter().any(|tensor| match tensor.strip_prefix('*') {
            Some(end) => checkpoint.names().any(|name| name.ends_with(end)),
            None => checkpoint.entry(tensor).is_some(),
        })
    }

    /// How it is called in messages.
    pub fn title(&self) -> &'static str {
        self.title
    }

    pub fn is_captioner(&self) -> bool {
        matches!(self.task, Task::Caption(_))
    }

    pub fn is_generator(&self) -> bool {
        matches!(self.task, Task::Generate(_))
    }

    /// Whether its noise schedule can be walked by another solver than the checkpoint's own.
    pub fn takes_schedulers(&self) -> bool {
        matches!(&self.task, Task::Generate(generator) if generator.takes_schedulers)
    }

    /// Whether the linear layers of its denoiser can be in float8.
    pub fn takes_float8(&self) -> bool {
        matches!(&self.task, Task::Generate(generator) if generator.takes_float8)
    }
}
