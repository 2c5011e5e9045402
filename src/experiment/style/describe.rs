//! The descriptions of a run: one for each captioner, instruction and photo, shared by all strategies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use image::RgbImage;

use super::StyleTransfer;
use super::config::Config;
use super::plan::{Cell, Plan};
use crate::axes::{captioner, instruction};
use crate::datasets::Photo;
use crate::experiment::describe::{Described, describe_batch};
use crate::experiment::kind::Work;
use crate::experiment::stage::{Decoded, Stage, pass};
use crate::images;
use crate::models::{CaptionOptions, Captioner};
use crate::run::journal::Journal;
use crate::run::style::CaptionRow;

/// Of its bar.
pub const LABEL: &str = "describing";

/// Captioner, instruction, photo id.
type Key = (String, String, String);

/// What the captioners said; for a photo that could not be described, why.
#[derive(Debug, Default)]
pub struct Descriptions(BTreeMap<Key, Result<String, String>>);

impl Descriptions {
    pub fn get(&self, cell: &Cell, photo: &Photo) -> Result<&str, String> {
        let (captioner, instruction) = voice(cell);
        match self.0.get(&(captioner, instruction, photo.id.clone())) {
            Some(Ok(text)) => Ok(text),
            Some(Err(error)) => Err(error.clone()),
            None => Err("it was not described".to_string()),
        }
    }
}

/// The captioner and what it is asked.
fn voice(cell: &Cell) -> (String, String) {
    (cell.text(&captioner::AXIS).to_string(), cell.text(&instruction::AXIS).to_string())
}

/// Describes every photo that a cell still needs, unless `captions.csv` has the description.
pub fn describe_photos(work: &Work<StyleTransfer>) -> Result<Descriptions> {
    let (journal, rows) = Journal::<CaptionRow>::open(&work.folder.path("captions.csv"), &[], |_| true)?;
    let mut descriptions = Descriptions::default();
    for row in rows {
        descriptions.0.insert((row.captioner, row.instruction, row.id), Ok(row.caption));
    }
    let mut describing = Describing { work, journal, descriptions };
    pass(&mut describing, work.progress)?;
    Ok(describing.descriptions)
}

/// What a captioner is told; an empty instruction leaves it to the captioner.
pub fn caption_options(config: &Config, instruction: &str) -> CaptionOptions {
    CaptionOptions {
        prompt: Some(instruction.to_string()).filter(|text| !text.is_empty()),
        max_new_tokens: config.shared.max_new_tokens,
        num_beams: config.shared.num_beams,
    }
}

/// How many photos may be decoded ahead: enough that the device need not wait, few enough for memory
/// when they are large.
pub fn ahead(batch_size: usize) -> usize {
    (2 * batch_size).clamp(4, 16)
}

/// Photos that are described together.
struct Batch<'a> {
    captioner: String,
    instruction: String,
    photos: &'a [Photo],
}

impl Batch<'_> {
    fn key(&self, photo: &Photo) -> Key {
        (self.captioner.clone(), self.instruction.clone(), photo.id.clone())
    }
}

/// The pass that describes.
struct Describing<'a> {
    work: &'a Work<'a, StyleTransfer>,
    journal: Journal<CaptionRow>,
    descriptions: Descriptions,
}

impl<'a> Stage for Describing<'a> {
    const LABEL: &'static str = LABEL;
    type Batch = Batch<'a>;
    type Model = Box<dyn Captioner>;
    type Made = Vec<Result<Described, String>>;

    /// Cut from the whole list of photos, and done whole: what a photo is described with never depends on where a run
    /// was stopped.
    fn batches(&self) -> Vec<Batch<'a>> {
        let plan: &'a Plan = self.work.plan;
        let mut voices: Vec<(String, String)> = Vec::new();
        for cell in &plan.cells {
            if !voices.contains(&voice(cell)) {
                voices.push(voice(cell));
            }
        }
        // One captioner after the other, so that each is loaded once.
        let order: Vec<String> = voices.iter().map(|(captioner, _)| captioner.clone()).collect();
        voices.sort_by_key(|(captioner, _)| order.iter().position(|name| name == captioner));
        let mut batches = Vec::new();
        for (captioner, instruction) in voices {
            for photos in plan.photos.chunks(self.work.batch_size()) {
                batches.push(Batch { captioner: captioner.clone(), instruction: instruction.clone(), photos });
            }
        }
        batches
    }

    /// Whether a photo without a description has a picture to come.
    fn is_pending(&self, batch: &Batch) -> bool {
        let asks = |cell: &&Cell| voice(cell) == (batch.captioner.clone(), batch.instruction.clone());
        let cells: Vec<&Cell> = self.work.plan.cells.iter().filter(asks).collect();
        batch.photos.iter().any(|photo| {
            !self.descriptions.0.contains_key(&batch.key(photo))
                && cells.iter().any(|cell| !self.work.done.contains(&(cell.strategy.clone(), photo.id.clone())))
        })
    }

    fn model<'b>(&self, batch: &'b Batch<'a>) -> &'b str {
        &batch.captioner
    }

    fn load(&self, name: &str) -> Result<Box<dyn Captioner>> {
        self.work.models.captioner(name)
    }

    fn decode(&self, batches: &[Batch]) -> Decoded {
        let photos = batches.iter().flat_map(|batch| batch.photos);
        let paths: Vec<PathBuf> = photos.map(|photo| photo.path.clone()).collect();
        Box::new(images::stream(paths, ahead(self.work.batch_size())).map(|(_, photo)| photo))
    }

    fn pictures(&self, batch: &Batch) -> usize {
        batch.photos.len()
    }

    fn extent(&self, pending: &[Batch]) -> (usize, usize) {
        (pending.iter().map(|batch| batch.photos.len()).sum(), 0)
    }

    fn work(&self, batch: &Batch, photos: Vec<Result<RgbImage>>, captioner: &Box<dyn Captioner>) -> Result<Self::Made> {
        let options = caption_options(self.work.config, &batch.instruction);
        let shown = |at: usize| batch.photos[at].path.display().to_string();
        Ok(describe_batch((&batch.captioner, captioner.as_ref()), &options, photos, shown))
    }

    fn record(&mut self, batch: &Batch, made: Self::Made) -> Result<usize> {
        let mut rows = Vec::new();
        for (photo, said) in batch.photos.iter().zip(made) {
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
