//! Runs a caption plan: one model after the other, pictures decoded ahead of it, a row as each batch ends.
//!
//! Of a picture the thumbnail is written first, then its row, so a run that is stopped anywhere goes on behind the last
//! row. Batches are cut from the whole list of pictures and done whole: what a picture is described with does not depend
//! on where a run was stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use image::RgbImage;

use super::config::CaptionConfig;
use super::models::Captioners;
use super::plan::{CaptionPlan, Part, Voice};
use super::results;
use crate::datasets::{Item, Picture};
use crate::experiment::Progress;
use crate::experiment::folder::RunFolder;
use crate::experiment::manifest::{DataSet, Facts, Manifest};
use crate::images;
use crate::models::Captioner;
use crate::pipelines::describe;
use crate::run::caption::{CaptionItem, CaptionResult};
use crate::run::csv::write;
use crate::run::journal::Journal;
use crate::runtime::{one_line, write_whole};

/// Longest side of a thumbnail, in pixels.
const THUMBNAIL: u32 = 224;

/// What a run came to.
#[derive(Debug)]
pub struct CaptionSummary {
    pub results: Vec<CaptionResult>,
    /// Rows that failed.
    pub failed: Vec<CaptionItem>,
    pub captions: usize,
}

/// References of each picture, by data set and id.
pub type References = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// What can be known to be wrong with pictures and models before any model is loaded.
pub fn check(plan: &CaptionPlan, models: &dyn Captioners) -> Result<()> {
    plan.probe();
    for voice in &plan.voices {
        models.find(&voice.model)?;
        let label = || format!("model {}", voice.label);
        models.check_captions(&voice.model, &voice.options()).with_context(label)?;
    }
    Ok(())
}

/// Runs or continues a checked plan in its folder.
pub fn run(
    plan: &CaptionPlan,
    config: &CaptionConfig,
    dir: &Path,
    models: &dyn Captioners,
    progress: Progress,
) -> Result<CaptionSummary> {
    let folder = RunFolder::open(dir, config)?;
    let manifest = begin(&folder, plan, models)?;
    for part in &plan.parts {
        folder.make(&format!("pictures/{}", part.name))?;
        part.set.remarks().iter().for_each(|remark| tracing::warn!("{}: {remark}", part.name));
    }
    folder.make("plots")?;
    let references = write_references(&folder, plan)?;
    let thumbnails = |part: &Part| -> BTreeMap<String, String> {
        part.set.items.iter().map(|item| (item.id.clone(), part.thumbnail(item))).collect()
    };
    let planned: BTreeMap<&str, BTreeMap<String, String>> =
        plan.parts.iter().map(|part| (part.name.as_str(), thumbnails(part))).collect();
    // Failed pictures are tried again: they may have been mended.
    let (mut journal, mut rows) = Journal::<CaptionItem>::open(&folder.path("items.csv"), &config.metrics, |row| {
        row.is_done()
            && planned.get(row.dataset.as_str()).and_then(|items| items.get(&row.id)) == Some(&row.image)
            && plan.voices.iter().any(|voice| voice.label == row.model)
            && folder.path(&row.image).exists()
    })?;
    let done: BTreeSet<(String, String, String)> =
        rows.iter().map(|row| (row.model.clone(), row.dataset.clone(), row.id.clone())).collect();
    if !done.is_empty() && done.len() < plan.len() {
        tracing::info!("{} of {} captions are there already", done.len(), plan.len());
    }
    let pending = |voice: &Voice, part: &Part, item: &Item| {
        !done.contains(&(voice.label.clone(), part.name.clone(), item.id.clone()))
    };
    let work = batches(plan, models.batch_size(), &pending);
    let bar = progress.bar("captions", plan.len(), done.len());
    let mut decoded = decode_ahead(&folder, &work);
    let mut loaded: Option<(&str, Box<dyn Captioner>)> = None;
    for batch in &work {
        if loaded.as_ref().is_none_or(|(name, _)| *name != batch.voice.model) {
            // The old one goes before the new one comes: memory holds one at a time.
            drop(loaded.take());
            loaded = Some((&batch.voice.model, models.captioner(&batch.voice.model)?));
        }
        let Some((_, captioner)) = &loaded else { continue };
        let pictures = decoded.by_ref().take(batch.items.len()).map(|(_, picture)| picture).collect();
        let mut new = batch.describe(captioner.as_ref(), pictures);
        new.retain(|row| !done.contains(&(row.model.clone(), row.dataset.clone(), row.id.clone())));
        journal.append(&new)?;
        bar.inc(new.len() as u64);
        rows.extend(new);
    }
    bar.finish_and_clear();
    drop(journal);
    let voices = &plan.voices;
    let names: Vec<&str> = plan.parts.iter().map(|part| part.name.as_str()).collect();
    finish(&folder, config, voices, &names, rows, &references, manifest)
}

fn begin(folder: &RunFolder, plan: &CaptionPlan, models: &dyn Captioners) -> Result<Manifest> {
    let data_set = |part: &Part| DataSet {
        name: part.name.clone(),
        format: part.set.format.to_string(),
        file: part.set.file.clone(),
        split: part.set.split.clone(),
        pictures: part.set.items.len(),
        missing: part.set.missing.clone(),
        without_references: part.set.without_references.clone(),
        batch_size: part.batch_size.unwrap_or(models.batch_size()),
    };
    let facts = Facts { data_sets: plan.parts.iter().map(data_set).collect(), ..Facts::default() };
    let names: BTreeSet<&String> = plan.voices.iter().map(|voice| &voice.model).collect();
    let files: Result<Vec<(String, PathBuf)>> =
        names.into_iter().map(|name| Ok((name.clone(), models.find(name)?))).collect();
    Manifest::begin(folder, facts, models.place(), files?)
}

/// Writes `references/DATASET.json`: what `evaluate captions --references` takes.
fn write_references(folder: &RunFolder, plan: &CaptionPlan) -> Result<References> {
    let of = |part: &Part| part.set.items.iter().map(|item| (item.id.clone(), item.references.clone())).collect();
    let references: References = plan.parts.iter().map(|part| (part.name.clone(), of(part))).collect();
    save_references(folder, &references)?;
    Ok(references)
}

pub(super) fn save_references(folder: &RunFolder, references: &References) -> Result<()> {
    folder.make("references")?;
    for (name, of) in references {
        let text = serde_json::to_string_pretty(of)? + "\n";
        let path = folder.path(&format!("references/{name}.json"));
        write_whole(&path, |file| Ok(std::io::Write::write_all(file, text.as_bytes())?))?;
    }
    Ok(())
}

/// Pictures that are described together.
struct Batch<'a> {
    voice: &'a Voice,
    part: &'a Part,
    items: &'a [Item],
}

/// The batches in which a caption is missing, those of one model together.
fn batches<'a>(
    plan: &'a CaptionPlan,
    automatic: usize,
    pending: &dyn Fn(&Voice, &Part, &Item) -> bool,
) -> Vec<Batch<'a>> {
    let first = |voice: &Voice| plan.voices.iter().position(|other| other.model == voice.model);
    let mut voices: Vec<&Voice> = plan.voices.iter().collect();
    voices.sort_by_key(|voice| first(voice));
    let mut work = Vec::new();
    for voice in voices {
        for part in &plan.parts {
            for items in part.set.items.chunks(part.batch_size.unwrap_or(automatic).max(1)) {
                if items.iter().any(|item| pending(voice, part, item)) {
                    work.push(Batch { voice, part, items });
                }
            }
        }
    }
    work
}

/// Decodes the pictures of the batches on all cores, and writes the thumbnails that are not there yet.
fn decode_ahead(folder: &RunFolder, work: &[Batch]) -> images::Prefetch<(Picture, PathBuf)> {
    let source = |batch: &Batch, item: &Item| (item.picture.clone(), folder.path(&batch.part.thumbnail(item)));
    let sources: Vec<(Picture, PathBuf)> =
        work.iter().flat_map(|batch| batch.items.iter().map(|item| source(batch, item))).collect();
    let largest = work.iter().map(|batch| batch.items.len()).max().unwrap_or(1);
    images::stream_with(sources, largest + 2 * rayon::current_num_threads(), |(picture, thumbnail)| {
        let pixels = picture.load()?;
        if !thumbnail.exists() {
            images::save(&images::thumbnail(&pixels, THUMBNAIL), thumbnail)?;
        }
        Ok(pixels)
    })
}

impl Batch<'_> {
    /// Describes what could be decoded; a row for each picture.
    fn describe(&self, captioner: &dyn Captioner, decoded: Vec<Result<RgbImage>>) -> Vec<CaptionItem> {
        let mut rows: Vec<CaptionItem> = self.items.iter().map(|item| self.row(item)).collect();
        let (mut places, mut pictures) = (Vec::new(), Vec::new());
        for (at, picture) in decoded.into_iter().enumerate() {
            match picture {
                Ok(pixels) => {
                    places.push(at);
                    pictures.push(pixels);
                }
                Err(error) => fail(&mut rows[at], one_line(&error)),
            }
        }
        let start = Instant::now();
        let captions = describe(captioner, &pictures, &self.voice.options());
        let seconds = start.elapsed().as_secs_f64() / pictures.len().max(1) as f64;
        for (at, caption) in places.into_iter().zip(captions) {
            let row = &mut rows[at];
            match caption {
                Ok(caption) => {
                    row.words = caption.text.split_whitespace().count();
                    (row.caption, row.tokens, row.seconds) = (caption.text, caption.tokens, Some(seconds));
                }
                Err(error) => {
                    fail(row, format!("{} cannot describe {}: {}", self.voice.model, row.id, one_line(&error)));
                }
            }
        }
        rows
    }

    fn row(&self, item: &Item) -> CaptionItem {
        CaptionItem {
            id: item.id.clone(),
            dataset: self.part.name.clone(),
            model: self.voice.label.clone(),
            strategy: self.voice.strategy.clone(),
            prompt: self.voice.instruction.clone().unwrap_or_default(),
            status: "done".to_string(),
            image: self.part.thumbnail(item),
            ..CaptionItem::default()
        }
    }
}

fn fail(row: &mut CaptionItem, error: String) {
    row.status = "failed".to_string();
    row.error = error;
}

/// Puts the rows in order, scores them, and computes the results.
pub(super) fn finish(
    folder: &RunFolder,
    config: &CaptionConfig,
    voices: &[Voice],
    datasets: &[&str],
    mut rows: Vec<CaptionItem>,
    references: &References,
    manifest: Manifest,
) -> Result<CaptionSummary> {
    let voice = |row: &CaptionItem| voices.iter().position(|voice| voice.label == row.model);
    let dataset = |row: &CaptionItem| datasets.iter().position(|name| *name == row.dataset);
    rows.sort_by(|a, b| (dataset(a), voice(a), &a.id).cmp(&(dataset(b), voice(b), &b.id)));
    let scored = results::score(voices, datasets, &mut rows, references, &config.metrics)?;
    write(&folder.path("items.csv"), &rows, &config.metrics)?;
    write(&folder.path("comparisons.csv"), &scored.comparisons, &[])?;
    write(&folder.path("results.csv"), &scored.results, &config.metrics)?;
    manifest.finish(folder).context("the results are written, the manifest is not")?;
    let failed: Vec<CaptionItem> = rows.iter().filter(|row| !row.is_done()).cloned().collect();
    if failed.len() == rows.len()
        && let Some(first) = failed.first()
    {
        bail!("every caption failed, the first ({} by {}): {}", first.id, first.model, first.error);
    }
    Ok(CaptionSummary { results: scored.results, failed, captions: rows.len() })
}
