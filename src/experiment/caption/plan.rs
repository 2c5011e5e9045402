//! What a caption run does: variants (a model and what it is asked) times the pictures of data sets.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, anyhow};

use super::config::{CaptionConfig, Dataset};
use crate::datasets::{self, CaptionSet, Request};
use crate::error::{UsageError, usage};
use crate::experiment::shard::Shard;
use crate::images;
use crate::models::CaptionOptions;
use crate::run::layout::thumbnail_path;

/// A model with one instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptionerVariant {
    /// Its name in the results: the model's, and that of the instruction where the model has several.
    pub label: String,
    /// A name, a folder or a hub id.
    pub model: String,
    /// The model's name in the configuration.
    pub name: String,
    /// The name of the instruction.
    pub strategy: String,
    pub instruction: Option<String>,
    pub max_new_tokens: Option<usize>,
    pub num_beams: usize,
}

impl CaptionerVariant {
    /// What the captioner is told.
    pub fn options(&self) -> CaptionOptions {
        CaptionOptions {
            prompt: self.instruction.clone(),
            max_new_tokens: self.max_new_tokens,
            num_beams: self.num_beams,
        }
    }
}

/// A data set, after limit and shard.
#[derive(Debug)]
pub struct Part {
    pub name: String,
    pub set: CaptionSet,
    /// Pictures before limit and shard.
    pub found: usize,
    /// Ids of the whole data set that would name the same file where file names ignore case, in the form of
    /// [`images::folded`].
    pub alike: BTreeSet<String>,
    /// None: chosen for the device.
    pub batch_size: Option<usize>,
}

impl Part {
    /// The place of an item's thumbnail in the run folder.
    pub fn thumbnail(&self, item: &datasets::Item) -> String {
        thumbnail_path(&self.name, &item.id, !self.alike.contains(&images::folded(&item.id)))
    }
}

/// What is to be done in a run.
#[derive(Debug)]
pub struct CaptionPlan {
    pub variants: Vec<CaptionerVariant>,
    pub parts: Vec<Part>,
}

impl CaptionPlan {
    /// Opens the data sets and lays out the run; what is wrong with a data set is wrong usage.
    pub fn new(config: &CaptionConfig) -> Result<Self> {
        let shard = config.shared.shard.as_deref().map(Shard::parse).transpose()?;
        let parts: Result<Vec<Part>> =
            config.datasets.0.iter().map(|(name, dataset)| part(name, dataset, config, shard)).collect();
        let parts = parts?;
        // Each has a folder of its own.
        let mut names = BTreeSet::new();
        if let Some(twice) = parts.iter().find(|part| !names.insert(images::folded(&part.name))) {
            return Err(usage(format!("two data sets would both be called {}: name them apart", twice.name)));
        }
        if parts.iter().all(|part| part.set.items.is_empty()) {
            let shard = config.shared.shard.as_deref().unwrap_or_default();
            return Err(usage(format!("shard {shard} has no pictures: there are too few")));
        }
        Ok(Self { variants: variants(config)?, parts })
    }

    /// Looks at the header of every picture that is a file of its own, and says which will fail.
    pub fn probe(&self) {
        for part in &self.parts {
            let file = |item: &datasets::Item| match &item.picture {
                datasets::Picture::File(path) => Some(path.clone()),
                datasets::Picture::Entry(..) => None,
            };
            let files: Vec<PathBuf> = part.set.items.iter().filter_map(file).collect();
            if let Some(broken) = images::broken(&images::probe_all(&files)) {
                tracing::warn!("data set {}: {broken}: they will fail, the others go on", part.name);
            }
        }
    }

    /// Captions to be made.
    pub fn len(&self) -> usize {
        self.variants.len() * self.parts.iter().map(|part| part.set.items.len()).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn part(name: &str, dataset: &Dataset, config: &CaptionConfig, shard: Option<Shard>) -> Result<Part> {
    let request = Request {
        path: dataset.path.clone(),
        format: dataset.format.clone(),
        split: dataset.split.clone(),
        images: dataset.images.clone(),
    };
    let mut set = datasets::open(&request).map_err(|error| usage(format!("data set {name}: {error:#}")))?;
    let found = set.items.len();
    let mut names = BTreeSet::new();
    let folded = set.items.iter().map(|item| images::folded(&item.id));
    let alike = folded.filter(|name| !names.insert(name.clone())).collect();
    set.items.truncate(config.shared.limit.unwrap_or(usize::MAX));
    if let Some(shard) = shard {
        let mut at = 0..;
        set.items.retain(|_| at.next().is_some_and(|at| shard.has(at)));
    }
    Ok(Part { name: name.to_string(), set, found, alike, batch_size: dataset.batch_size.or(config.shared.batch_size) })
}

/// The variants in the order of the configuration, those of one model together.
pub fn variants(config: &CaptionConfig) -> Result<Vec<CaptionerVariant>> {
    let mut variants = Vec::new();
    for (name, model) in &config.models.0 {
        let choices = model.instruction.choices();
        for (strategy, instruction) in &choices {
            let label = if choices.len() > 1 { format!("{name}__{strategy}") } else { name.clone() };
            variants.push(CaptionerVariant {
                label,
                model: model.model.clone(),
                name: name.clone(),
                strategy: strategy.clone(),
                instruction: instruction.clone(),
                max_new_tokens: model.max_new_tokens.or(config.shared.max_new_tokens),
                num_beams: model.num_beams.unwrap_or(config.shared.num_beams),
            });
        }
    }
    let mut labels = BTreeSet::new();
    match variants.iter().find(|variant| !labels.insert(variant.label.to_lowercase())) {
        Some(twice) => Err(anyhow!(UsageError(format!("two models would both be called {}", twice.label)))),
        None => Ok(variants),
    }
}
