//! The descriptions of a run: one for each captioner, instruction and photo, shared by all strategies.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::StyleTransfer;
use super::config::Config;
use super::photos::{Photos, views};
use super::plan::Cell;
use crate::axes::{captioner, instruction};
use crate::datasets::Photo;
use crate::experiment::describe::{AllSaid, Described, describe_batch};
use crate::experiment::kind::{Inputs, Work};
use crate::experiment::stage::{Decoded, Pass};
use crate::models::{CaptionOptions, Captioner};
use crate::run::journal::Journal;
use crate::run::style::CaptionRow;
use crate::runtime::during;
use crate::workers::{Ledger, Stage};

/// Of its bar.
pub const LABEL: &str = "describing";

/// Captioner, instruction, photo id.
type Key = (String, String, String);

/// What the captioners said; for a photo that could not be described, why.
#[derive(Debug, Default)]
pub struct Descriptions(BTreeMap<Key, Result<String, String>>);

impl Descriptions {
    pub fn get(&self, cell: &Cell, photo: &Photo) -> Result<&str, String> {
        let (captioner, instruction) = variant(cell);
        match self.0.get(&(captioner, instruction, photo.id.clone())) {
            Some(Ok(text)) => Ok(text),
            Some(Err(error)) => Err(error.clone()),
            None => Err("it was not described".to_string()),
        }
    }
}

/// The captioner and what it is asked.
fn variant(cell: &Cell) -> (String, String) {
    (cell.text(&captioner::AXIS).to_string(), cell.text(&instruction::AXIS).to_string())
}

/// What a captioner is told; an empty instruction leaves it to the captioner.
pub fn caption_options(config: &Config, instruction: &str) -> CaptionOptions {
    CaptionOptions {
        prompt: Some(instruction.to_string()).filter(|text| !text.is_empty()),
        max_new_tokens: config.shared.max_new_tokens,
        num_beams: config.shared.num_beams,
    }
}

/// Photos that are described together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch {
    captioner: String,
    instruction: String,
    /// Places in the plan.
    photos: Range<usize>,
}

impl Batch {
    fn key(&self, photo: &Photo) -> Key {
        (self.captioner.clone(), self.instruction.clone(), photo.id.clone())
    }
}

/// The work of the captioners.
pub struct Describe<'a> {
    pub inputs: Inputs<'a, StyleTransfer>,
    pub photos: Arc<Photos>,
}

impl<'a> Describe<'a> {
    fn photos(&self, batch: &Batch) -> &'a [Photo] {
        &self.inputs.plan.photos[batch.photos.clone()]
    }
}

impl Stage for Describe<'_> {
    const LABEL: &'static str = LABEL;
    type Batch = Batch;
    type Ready = Decoded;
    type Model = Box<dyn Captioner>;
    type Made = AllSaid;

    fn model(&self, batch: &Batch) -> String {
        batch.captioner.clone()
    }

    fn load(&self, name: &str) -> Result<Box<dyn Captioner>> {
        self.inputs.models.captioner(name)
    }

    fn prepare(&self, batch: &Batch) -> Decoded {
        views(&self.photos, self.photos(batch))
    }

    fn work(&self, batch: &Batch, photos: Decoded, captioner: &Box<dyn Captioner>) -> Result<AllSaid> {
        let options = caption_options(self.inputs.config, &batch.instruction);
        let shown = |at: usize| self.photos(batch)[at].path.display().to_string();
        let photos = during("decoding", || photos.collect());
        Ok(describe_batch((&batch.captioner, captioner.as_ref()), &options, photos, shown))
    }

    fn lost(&self, batch: &Batch, reason: &str) -> Result<AllSaid> {
        let failed =
            |photo: &Photo| Err(format!("{} cannot describe {}: {reason}", batch.captioner, photo.path.display()));
        Ok(self.photos(batch).iter().map(failed).collect())
    }
}

/// The pass that describes every photo that a cell still needs, unless `captions.csv` has the description.
pub struct Describing<'a> {
    work: &'a Work<'a, StyleTransfer>,
    stage: Describe<'a>,
    journal: Journal<CaptionRow>,
    pub descriptions: Descriptions,
}

impl<'a> Describing<'a> {
    pub fn new(work: &'a Work<'a, StyleTransfer>, photos: Arc<Photos>) -> Result<Self> {
        let (journal, rows) = Journal::<CaptionRow>::open(&work.folder.path("captions.csv"), &[], |_| true)?;
        let mut descriptions = Descriptions::default();
        for row in rows {
            descriptions.0.insert((row.captioner, row.instruction, row.id), Ok(row.caption));
        }
        Ok(Self { work, stage: Describe { inputs: work.inputs(), photos }, journal, descriptions })
    }
}

impl<'a> Ledger for Describing<'a> {
    type Stage = Describe<'a>;

    fn stage(&self) -> &Describe<'a> {
        &self.stage
    }

    fn record(&mut self, batch: &Batch, made: AllSaid) -> Result<usize> {
        let mut rows = Vec::new();
        for (photo, said) in self.stage.photos(batch).iter().zip(made) {
            let key = batch.key(photo);
            // A photo that was described before only kept the others company.
            if matches!(self.descriptions.0.get(&key), Some(Ok(_))) {
                continue;
            }
            if let Ok(Described { text, tokens, seconds }) = &said {
                let (captioner, instruction, id) = key.clone();
                let (caption, tokens, seconds) = (text.clone(), *tokens, Some(*seconds));
                rows.push(CaptionRow { captioner, instruction, id, caption, tokens, seconds });
            }
            self.descriptions.0.insert(key, said.map(|described| described.text));
        }
        self.journal.append(&rows)?;
        Ok(batch.photos.len())
    }
}

impl Pass for Describing<'_> {
    /// Cut from the whole list of photos, and done whole: what a photo is described with never depends on where a run
    /// was stopped.
    fn batches(&self) -> Vec<Batch> {
        let mut variants: Vec<(String, String)> = Vec::new();
        for cell in &self.work.plan.cells {
            if !variants.contains(&variant(cell)) {
                variants.push(variant(cell));
            }
        }
        // One captioner after the other, so that each is loaded once.
        let order: Vec<String> = variants.iter().map(|(captioner, _)| captioner.clone()).collect();
        variants.sort_by_key(|(captioner, _)| order.iter().position(|name| name == captioner));
        let (count, size) = (self.work.plan.photos.len(), self.stage.inputs.batch_size);
        let mut batches = Vec::new();
        for (captioner, instruction) in variants {
            for start in (0..count).step_by(size) {
                let (captioner, instruction) = (captioner.clone(), instruction.clone());
                batches.push(Batch { captioner, instruction, photos: start..count.min(start + size) });
            }
        }
        batches
    }

    /// Whether a photo without a description has a picture to come.
    fn is_pending(&self, batch: &Batch) -> bool {
        let asks = |cell: &&Cell| variant(cell) == (batch.captioner.clone(), batch.instruction.clone());
        let cells: Vec<&Cell> = self.work.plan.cells.iter().filter(asks).collect();
        self.stage.photos(batch).iter().any(|photo| {
            !self.descriptions.0.contains_key(&batch.key(photo))
                && cells.iter().any(|cell| !self.work.done.contains(&(cell.strategy.clone(), photo.id.clone())))
        })
    }

    fn extent(&self, pending: &[Batch]) -> (usize, usize) {
        (pending.iter().map(|batch| batch.photos.len()).sum(), 0)
    }
}
