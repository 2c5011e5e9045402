//! The descriptions of a run: one for each captioner, instruction and photo, shared by all strategies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use image::RgbImage;

use super::config::Config;
use super::models::Models;
use super::plan::{Cell, Plan};
use crate::axes::{captioner, instruction};
use crate::datasets::Photo;
use crate::experiment::folder::RunFolder;
use crate::experiment::progress::Progress;
use crate::images;
use crate::models::{CaptionOptions, Captioner};
use crate::pipelines::describe;
use crate::run::journal::Journal;
use crate::run::style::CaptionRow;
use crate::runtime::{one_line, shim};

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
pub fn describe_photos(
    plan: &Plan,
    config: &Config,
    folder: &RunFolder,
    models: &dyn Models,
    pending: &dyn Fn(&Cell, &Photo) -> bool,
    progress: Progress,
) -> Result<Descriptions> {
    let (mut journal, rows) = Journal::<CaptionRow>::open(&folder.path("captions.csv"), &[], |_| true)?;
    let mut descriptions = Descriptions::default();
    for row in rows {
        descriptions.0.insert((row.captioner, row.instruction, row.id), Ok(row.caption));
    }
    let batch_size = config.batch_size.unwrap_or(models.batch_size());
    let work = missing(plan, batch_size, &descriptions, pending);
    let bar = progress.bar("describing", work.iter().map(|batch| batch.photos.len()).sum(), 0);
    let paths: Vec<PathBuf> =
        work.iter().flat_map(|batch| batch.photos.iter().map(|photo| photo.path.clone())).collect();
    let mut decoded = images::stream(paths, ahead(batch_size));
    let mut loaded: Option<(&str, Box<dyn Captioner>)> = None;
    for batch in &work {
        if loaded.as_ref().is_none_or(|(name, _)| *name != batch.captioner) {
            // The old one goes before the new one comes: memory holds one at a time.
            drop(loaded.take());
            shim::empty_cache();
            loaded = Some((&batch.captioner, models.captioner(&batch.captioner)?));
        }
        let Some((_, captioner)) = &loaded else { continue };
        let photos = decoded.by_ref().take(batch.photos.len()).map(|(_, photo)| photo).collect();
        let rows = batch.describe(captioner.as_ref(), photos, config, &mut descriptions);
        journal.append(&rows)?;
        bar.inc(batch.photos.len() as u64);
    }
    bar.finish_and_clear();
    drop(loaded);
    shim::empty_cache();
    Ok(descriptions)
}

/// What a captioner is told; an empty instruction leaves it to the captioner.
pub fn caption_options(config: &Config, instruction: &str) -> CaptionOptions {
    CaptionOptions {
        prompt: Some(instruction.to_string()).filter(|text| !text.is_empty()),
        max_new_tokens: config.max_new_tokens,
        num_beams: config.num_beams,
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

/// The batches in which a needed description is missing. Batches are cut from the whole list of
/// photos, and done whole: what a photo is described with never depends on where a run was stopped.
fn missing<'a>(
    plan: &'a Plan,
    batch_size: usize,
    known: &Descriptions,
    pending: &dyn Fn(&Cell, &Photo) -> bool,
) -> Vec<Batch<'a>> {
    let mut voices: Vec<(String, String)> = Vec::new();
    for cell in &plan.cells {
        if !voices.contains(&voice(cell)) {
            voices.push(voice(cell));
        }
    }
    // One captioner after the other, so that each is loaded once.
    let order: Vec<&String> = voices.iter().map(|(captioner, _)| captioner).collect();
    let mut voices: Vec<(usize, &(String, String))> = voices
        .iter()
        .map(|voice| (order.iter().position(|captioner| **captioner == voice.0).unwrap_or(0), voice))
        .collect();
    voices.sort_by_key(|(rank, _)| *rank);
    let mut work = Vec::new();
    for (_, (captioner, instruction)) in voices {
        let needed: BTreeSet<&str> = plan
            .photos
            .iter()
            .filter(|photo| !known.0.contains_key(&(captioner.clone(), instruction.clone(), photo.id.clone())))
            .filter(|photo| {
                let asks = |cell: &&Cell| voice(cell) == (captioner.clone(), instruction.clone());
                plan.cells.iter().filter(asks).any(|cell| pending(cell, photo))
            })
            .map(|photo| photo.id.as_str())
            .collect();
        for photos in plan.photos.chunks(batch_size) {
            if photos.iter().any(|photo| needed.contains(photo.id.as_str())) {
                work.push(Batch { captioner: captioner.clone(), instruction: instruction.clone(), photos });
            }
        }
    }
    work
}

impl Batch<'_> {
    /// Describes what could be decoded; returns the rows that are new.
    fn describe(
        &self,
        captioner: &dyn Captioner,
        decoded: Vec<Result<RgbImage>>,
        config: &Config,
        descriptions: &mut Descriptions,
    ) -> Vec<CaptionRow> {
        let key = |photo: &Photo| (self.captioner.clone(), self.instruction.clone(), photo.id.clone());
        let (mut asked, mut photos) = (Vec::new(), Vec::new());
        for (photo, decoded) in self.photos.iter().zip(decoded) {
            match decoded {
                Ok(pixels) => {
                    asked.push(photo);
                    photos.push(pixels);
                }
                Err(error) => {
                    descriptions.0.insert(key(photo), Err(one_line(&error)));
                }
            }
        }
        let options = caption_options(config, &self.instruction);
        let start = Instant::now();
        let captions = describe(captioner, &photos, &options);
        let seconds = start.elapsed().as_secs_f64() / photos.len().max(1) as f64;
        let mut rows = Vec::new();
        for (photo, caption) in asked.into_iter().zip(captions) {
            let (captioner, instruction, id) = key(photo);
            match caption {
                // The photo was described before and only kept the others company.
                Ok(_) if matches!(descriptions.0.get(&key(photo)), Some(Ok(_))) => {}
                Ok(caption) => {
                    descriptions.0.insert(key(photo), Ok(caption.text.clone()));
                    let (caption, tokens) = (caption.text, caption.tokens);
                    rows.push(CaptionRow { captioner, instruction, id, caption, tokens, seconds: Some(seconds) });
                }
                Err(error) => {
                    let error = format!("{captioner} cannot describe {}: {}", photo.path.display(), one_line(&error));
                    descriptions.0.insert(key(photo), Err(error));
                }
            }
        }
        rows
    }
}
