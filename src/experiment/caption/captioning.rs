//! The pass of a caption run: one model after the other, pictures decoded ahead of it, a row as each batch ends.
//!
//! Of a picture the thumbnail is written first, then its row, so a run that is stopped anywhere goes on behind the last
//! row. Batches are cut from the whole list of pictures and done whole: what a picture is described with does not depend
//! on where a run was stopped.

use std::path::PathBuf;

use anyhow::Result;
use image::RgbImage;

use super::Captioning;
use super::plan::{Part, Voice};
use crate::datasets::{Item, Picture};
use crate::experiment::describe::{Described, describe_batch};
use crate::experiment::kind::{Item as _, Work};
use crate::experiment::stage::{Decoded, Stage};
use crate::images;
use crate::models::Captioner;
use crate::run::caption::CaptionItem;
use crate::run::journal::Journal;

/// Of its bar.
pub const LABEL: &str = "describing";

/// Longest side of a thumbnail, in pixels.
pub(super) const THUMBNAIL: u32 = 224;

/// Pictures that are described together.
pub struct Batch<'a> {
    voice: &'a Voice,
    part: &'a Part,
    items: &'a [Item],
}

/// The pass.
pub struct Captions<'a> {
    pub work: &'a Work<'a, Captioning>,
    pub journal: Journal<CaptionItem>,
    /// What is new.
    pub rows: Vec<CaptionItem>,
}

impl<'a> Stage for Captions<'a> {
    const LABEL: &'static str = LABEL;
    type Batch = Batch<'a>;
    type Model = Box<dyn Captioner>;
    type Made = Vec<Result<Described, String>>;

    fn batches(&self) -> Vec<Batch<'a>> {
        let plan = self.work.plan;
        let first = |voice: &Voice| plan.voices.iter().position(|other| other.model == voice.model);
        let mut voices: Vec<&Voice> = plan.voices.iter().collect();
        voices.sort_by_key(|voice| first(voice));
        let mut batches = Vec::new();
        for voice in voices {
            for part in &plan.parts {
                let size = part.batch_size.unwrap_or(self.work.models.batch_size()).max(1);
                batches.extend(part.set.items.chunks(size).map(|items| Batch { voice, part, items }));
            }
        }
        batches
    }

    fn is_pending(&self, batch: &Batch) -> bool {
        batch.items.iter().any(|item| !self.work.done.contains(&batch.row(item).key()))
    }

    fn model<'b>(&self, batch: &'b Batch<'a>) -> &'b str {
        &batch.voice.model
    }

    fn load(&self, name: &str) -> Result<Box<dyn Captioner>> {
        self.work.models.captioner(name)
    }

    /// Decodes on all cores, and writes the thumbnails that are not there yet.
    fn decode(&self, batches: &[Batch]) -> Decoded {
        let folder = self.work.folder;
        let source = |batch: &Batch, item: &Item| (item.picture.clone(), folder.path(&batch.part.thumbnail(item)));
        let sources: Vec<(Picture, PathBuf)> =
            batches.iter().flat_map(|batch| batch.items.iter().map(|item| source(batch, item))).collect();
        let largest = batches.iter().map(|batch| batch.items.len()).max().unwrap_or(1);
        let decoded =
            images::stream_with(sources, largest + 2 * rayon::current_num_threads(), |(picture, thumbnail)| {
                let pixels = picture.load()?;
                if !thumbnail.exists() {
                    images::save(&images::thumbnail(&pixels, THUMBNAIL), thumbnail)?;
                }
                Ok(pixels)
            });
        Box::new(decoded.map(|(_, picture)| picture))
    }

    fn pictures(&self, batch: &Batch) -> usize {
        batch.items.len()
    }

    fn extent(&self, _pending: &[Batch]) -> (usize, usize) {
        (self.work.plan.len(), self.work.done.len())
    }

    fn work(
        &self,
        batch: &Batch,
        decoded: Vec<Result<RgbImage>>,
        captioner: &Box<dyn Captioner>,
    ) -> Result<Self::Made> {
        let voice = batch.voice;
        let shown = |at: usize| batch.items[at].id.clone();
        Ok(describe_batch((&voice.model, captioner.as_ref()), &voice.options(), decoded, shown))
    }

    fn record(&mut self, batch: &Batch, made: Self::Made) -> Result<usize> {
        let mut new: Vec<CaptionItem> =
            batch.items.iter().zip(made).map(|(item, said)| completed(batch.row(item), said)).collect();
        new.retain(|row| !self.work.done.contains(&row.key()));
        self.journal.append(&new)?;
        let count = new.len();
        self.rows.extend(new);
        Ok(count)
    }
}

impl Batch<'_> {
    fn row(&self, item: &Item) -> CaptionItem {
        CaptionItem {
            id: item.id.clone(),
            dataset: self.part.name.clone(),
            model: self.voice.label.clone(),
            strategy: self.voice.strategy.clone(),
            prompt: self.voice.instruction.clone().unwrap_or_default(),
            image: self.part.thumbnail(item),
            ..CaptionItem::default()
        }
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
