//! The pass of a caption run: one model after the other, pictures decoded ahead of it, a row as each batch ends.
//!
//! Of a picture the thumbnail is written first, then its row, so a run that is stopped anywhere goes on behind the last
//! row. Batches are cut from the whole list of pictures and done whole: what a picture is described with does not depend
//! on where a run was stopped.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Captioning;
use super::plan::{CaptionerVariant, Part};
use crate::datasets::{Item, Picture};
use crate::experiment::describe::{AllSaid, Described, describe_batch};
use crate::experiment::kind::{Inputs, Item as _, Work};
use crate::experiment::stage::{Decoded, Pass};
use crate::images;
use crate::models::{Captioner, Preprocess, preprocessed};
use crate::run::caption::CaptionItem;
use crate::run::journal::Journal;
use crate::workers::{Ledger, Stage};

/// Of its bar.
pub const LABEL: &str = "describing";

/// Longest side of a thumbnail, in pixels.
pub(super) const THUMBNAIL: u32 = 224;

/// Pictures that are described together, as places in the plan.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch {
    variant: usize,
    part: usize,
    items: Range<usize>,
}

/// The work of the captioners.
pub struct Caption<'a> {
    inputs: Inputs<'a, Captioning>,
    /// Of each model that had a batch.
    preprocess: RefCell<HashMap<String, Option<Preprocess>>>,
}

impl<'a> Caption<'a> {
    pub fn new(inputs: Inputs<'a, Captioning>) -> Self {
        Self { inputs, preprocess: RefCell::default() }
    }

    /// Looked for once: a model on the hub takes a while to be found.
    fn preprocess(&self, model: &str) -> Option<Preprocess> {
        // What is wrong with it is said where the captioner is loaded.
        let find = || self.inputs.models.captioner_preprocess(model).ok().flatten();
        self.preprocess.borrow_mut().entry(model.to_string()).or_insert_with(find).clone()
    }

    fn of(&self, batch: &Batch) -> (&'a CaptionerVariant, &'a Part, &'a [Item]) {
        let plan = self.inputs.plan;
        let part = &plan.parts[batch.part];
        (&plan.variants[batch.variant], part, &part.set.items[batch.items.clone()])
    }

    /// Rows of which nothing is known yet.
    fn rows(&self, batch: &Batch) -> Vec<CaptionItem> {
        let (variant, part, items) = self.of(batch);
        items.iter().map(|item| row(variant, part, item)).collect()
    }
}

impl Stage for Caption<'_> {
    const LABEL: &'static str = LABEL;
    type Batch = Batch;
    type Ready = Decoded;
    type Model = Box<dyn Captioner>;
    type Made = AllSaid;

    fn model(&self, batch: &Batch) -> String {
        self.of(batch).0.model.clone()
    }

    fn load(&self, name: &str) -> Result<Box<dyn Captioner>> {
        self.inputs.models.captioner(name)
    }

    /// Decodes on all cores, and writes the thumbnails that are not there yet.
    fn prepare(&self, batch: &Batch) -> Decoded {
        let (variant, part, items) = self.of(batch);
        let preprocess = self.preprocess(&variant.model);
        let source = |item: &Item| (item.picture.clone(), self.inputs.dir.join(part.thumbnail(item)));
        let sources: Vec<(Picture, PathBuf)> = items.iter().map(source).collect();
        let decoded = images::stream_with(sources, items.len(), move |(picture, thumbnail)| {
            let pixels = picture.load()?;
            if !thumbnail.exists() {
                images::save(&images::thumbnail(&pixels, THUMBNAIL), thumbnail)?;
            }
            preprocessed(pixels, preprocess.as_ref())
        });
        Box::new(decoded.map(|(_, picture)| picture))
    }

    fn work(&self, batch: &Batch, decoded: Decoded, captioner: &Box<dyn Captioner>) -> Result<AllSaid> {
        let (variant, _, items) = self.of(batch);
        let shown = |at: usize| items[at].id.clone();
        Ok(describe_batch((&variant.model, captioner.as_ref()), &variant.options(), decoded.collect(), shown))
    }

    fn lost(&self, batch: &Batch, reason: &str) -> Result<AllSaid> {
        let (variant, _, items) = self.of(batch);
        Ok(items.iter().map(|item| Err(format!("{} cannot describe {}: {reason}", variant.model, item.id))).collect())
    }
}

/// The pass.
pub struct Captions<'a> {
    pub work: &'a Work<'a, Captioning>,
    pub stage: Caption<'a>,
    pub journal: Journal<CaptionItem>,
    /// What is new.
    pub rows: Vec<CaptionItem>,
}

impl<'a> Ledger for Captions<'a> {
    type Stage = Caption<'a>;

    fn stage(&self) -> &Caption<'a> {
        &self.stage
    }

    fn record(&mut self, batch: &Batch, made: AllSaid) -> Result<usize> {
        let rows = self.stage.rows(batch).into_iter();
        let mut new: Vec<CaptionItem> = rows.zip(made).map(|(row, said)| completed(row, said)).collect();
        new.retain(|row| !self.work.done.contains(&row.key()));
        self.journal.append(&new)?;
        let count = new.len();
        self.rows.extend(new);
        Ok(count)
    }
}

impl Pass for Captions<'_> {
    fn batches(&self) -> Vec<Batch> {
        let plan = self.work.plan;
        let first =
            |variant: &usize| plan.variants.iter().position(|other| other.model == plan.variants[*variant].model);
        let mut variants: Vec<usize> = (0..plan.variants.len()).collect();
        variants.sort_by_key(first);
        let mut batches = Vec::new();
        for variant in variants {
            for (at, part) in plan.parts.iter().enumerate() {
                let count = part.set.items.len();
                let size = part.batch_size.unwrap_or_else(|| self.work.models.captions_at_once(count)).max(1);
                let items = (0..count).step_by(size).map(|start| start..count.min(start + size));
                batches.extend(items.map(|items| Batch { variant, part: at, items }));
            }
        }
        batches
    }

    fn is_pending(&self, batch: &Batch) -> bool {
        self.stage.rows(batch).iter().any(|row| !self.work.done.contains(&row.key()))
    }

    fn extent(&self, _pending: &[Batch]) -> (usize, usize) {
        (self.work.plan.len(), self.work.done.len())
    }
}

fn row(variant: &CaptionerVariant, part: &Part, item: &Item) -> CaptionItem {
    CaptionItem {
        id: item.id.clone(),
        dataset: part.name.clone(),
        model: variant.label.clone(),
        strategy: variant.strategy.clone(),
        prompt: variant.instruction.clone().unwrap_or_default(),
        image: part.thumbnail(item),
        ..CaptionItem::default()
    }
}

/// The row with what was said, or why nothing was.
fn completed(row: CaptionItem, said: Result<Described, String>) -> CaptionItem {
    match said {
        Ok(Described { text, tokens, seconds }) => CaptionItem {
            words: text.split_whitespace().count(),
            caption: text,
            tokens,
            seconds: Some(seconds),
            status: "done".to_string(),
            ..row
        },
        Err(error) => CaptionItem { status: "failed".to_string(), error, ..row },
    }
}
