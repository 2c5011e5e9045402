//! A style experiment from start to end.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use image::RgbImage;

use super::config::Config;
use super::describe::{ahead, caption_options, describe_photos};
use super::draw::{Drawing, request};
use super::features::{FeatureStore, Features, key};
use super::models::{Judge, Models};
use super::plan::{Cell, Plan};
use super::record::Recorder;
use super::results::{StyleMean, results};
use crate::axes::{AxisValue, captioner, generator, instruction, scheduler, seed, style_text};
use crate::datasets::Photo;
use crate::error::usage;
use crate::experiment::folder::RunFolder;
use crate::experiment::manifest::{Facts, Manifest};
use crate::experiment::progress::Progress;
use crate::images::{self, Filter, resize};
use crate::models::{GenerateRequest, Outline};
use crate::run::csv::{read_growing, write};
use crate::run::gallery_score::score;
use crate::run::journal::Journal;
use crate::run::layout::{image_path, photo_path};
use crate::run::style::{CaptionRow, ItemRow, ResultRow};

/// What a run came to.
#[derive(Debug)]
pub struct Summary {
    pub results: Vec<ResultRow>,
    /// Rows that failed.
    pub failed: Vec<ItemRow>,
    pub pictures: usize,
}

/// What can be known to be wrong before any model is loaded: pictures, names of models, instructions, style texts
/// that do not fit the text encoder, schedulers, sizes, strengths and steps that a generator cannot draw with.
pub fn check(plan: &Plan, config: &Config, models: &dyn Models) -> Result<()> {
    plan.probe()?;
    models.find(config)?;
    let mut generators = BTreeMap::new();
    let mut asked = BTreeSet::new();
    for cell in &plan.cells {
        let strategy = || format!("strategy {}", cell.strategy);
        let (captioner, instruction) = (cell.text(&captioner::AXIS), cell.text(&instruction::AXIS));
        if asked.insert((captioner, instruction)) {
            models.check_captions(captioner, &caption_options(config, instruction)).with_context(strategy)?;
        }
        let generator = cell.text(&generator::AXIS);
        let (budget, outline) = match generators.entry(generator) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert((models.token_budget(generator)?, models.outline(generator)?)),
        };
        let scheduler = cell.get(&scheduler::AXIS);
        if !scheduler.is_none() && !models.takes_schedulers(generator)? {
            return Err(usage(format!(
                "strategy {}: {generator} has a solver of its own and cannot draw with scheduler {scheduler}: leave the \
                 axis out, or the generator",
                cell.strategy
            )));
        }
        let alone = budget.compose("", cell.text(&style_text::AXIS));
        alone.map_err(|error| usage(format!("strategy {}: {error:#}", cell.strategy)))?;
        outline.check(&example(cell, config, outline.as_ref())).with_context(strategy)?;
    }
    Ok(())
}

/// A request like those of the cell, for one picture of the generator's own size.
fn example(cell: &Cell, config: &Config, outline: &dyn Outline) -> GenerateRequest {
    let (width, height) = outline.own_size();
    let mut request = request(cell, config, (width, height));
    request.prompts = vec![cell.text(&style_text::AXIS).to_string()];
    request.seeds = vec![cell.seed()];
    if request.strength.is_some() {
        request.images = vec![RgbImage::new(width as u32, height as u32)];
    }
    request
}

/// Runs or continues a checked plan in its folder.
pub fn run(plan: &Plan, config: &Config, dir: &Path, models: &dyn Models, progress: Progress) -> Result<Summary> {
    let folder = RunFolder::open(dir, config)?;
    let manifest = Manifest::begin(&folder, facts(plan, config), models.place(), models.find(config)?)?;
    for place in ["photos", "plots"].into_iter().map(String::from).chain(places(plan, config)) {
        folder.make(&place)?;
    }
    let (store, mut features) = FeatureStore::open(dir)?;
    let planned: BTreeSet<(&str, &str)> = plan
        .cells
        .iter()
        .flat_map(|cell| plan.photos.iter().map(move |photo| (cell.strategy.as_str(), photo.id.as_str())))
        .collect();
    // Failed items are tried again: their photo may have been mended.
    let (journal, mut rows) = Journal::<ItemRow>::open(&folder.path("items.csv"), &config.metrics, |row| {
        row.status == "done"
            && planned.contains(&(row.strategy.as_str(), row.id.as_str()))
            && features.contains_key(&key(&row.strategy, &row.id))
            // What a row of a folder that was received says of its files counts for nothing else.
            && row.image == image_path(&row.strategy, &row.id)
            && row.photo == photo_path(&row.id)
            && folder.path(&row.image).exists()
            && folder.path(&row.photo).exists()
    })?;
    let done: BTreeSet<(String, String)> = rows.iter().map(|row| (row.strategy.clone(), row.id.clone())).collect();
    let pending = |cell: &Cell, photo: &Photo| !done.contains(&(cell.strategy.clone(), photo.id.clone()));
    if !done.is_empty() && done.len() < plan.len() {
        tracing::info!("{} of {} pictures are there already", done.len(), plan.len());
    }

    if done.len() < plan.len() || store.style()?.is_none_or(|style| style.len() != plan.style_pictures.len()) {
        // First, since a style picture that is damaged behind its header ends the run.
        let judge = models.judge(config)?;
        let style = style_features(plan, config, &store, judge.as_ref(), models.batch_size(), progress)?;
        let style = StyleMean::of(&style);
        let descriptions = describe_photos(plan, config, &folder, models, &pending, progress)?;
        let bar = progress.bar("drawing", plan.len(), done.len());
        let drawing = Drawing {
            config,
            folder: &folder,
            models,
            judge: judge.as_ref(),
            descriptions: &descriptions,
            style: &style,
        };
        let recorder = Recorder::start(journal, store.clone());
        let (new_rows, new_features) = drawing.run(plan, &pending, recorder, &bar)?;
        bar.finish_and_clear();
        rows.extend(new_rows);
        features.extend(new_features);
    }
    let style = store.style()?.context("the features of the style pictures are gone")?;
    let ending = Ending { folder: &folder, config, cells: &plan.cells, store: &store, style: &style, manifest };
    finish(ending, rows, features)
}

/// What the manifest says of this kind of run alone.
fn facts(plan: &Plan, config: &Config) -> Facts {
    Facts {
        strategies: plan.cells.len(),
        photos: plan.photos.len(),
        style_pictures: plan.style_pictures.len(),
        seeds: config.axes.values(&seed::AXIS).filter_map(AxisValue::whole).collect(),
        ..Facts::default()
    }
}

/// What ends a run.
pub(super) struct Ending<'a> {
    pub folder: &'a RunFolder,
    pub config: &'a Config,
    pub cells: &'a [Cell],
    pub store: &'a FeatureStore,
    /// Features of the style pictures.
    pub style: &'a [Vec<f32>],
    pub manifest: Manifest,
}

/// Puts the rows in order and computes the results from them.
pub(super) fn finish(ending: Ending, mut rows: Vec<ItemRow>, features: Features) -> Result<Summary> {
    let Ending { folder, config, cells, store, style, manifest } = ending;
    let rank = |strategy: &str| cells.iter().position(|cell| cell.strategy == strategy);
    rows.sort_by(|a, b| rank(&a.strategy).cmp(&rank(&b.strategy)).then_with(|| a.id.cmp(&b.id)));
    score(&mut rows);
    let features: Features = rows
        .iter()
        .filter_map(|row| features.get_key_value(&key(&row.strategy, &row.id)))
        .map(|(key, feature)| (key.clone(), feature.clone()))
        .collect();
    let captions_file = folder.path("captions.csv");
    let mut captions = read_growing::<CaptionRow>(&captions_file)?;
    captions.sort_by(|a, b| (&a.captioner, &a.instruction, &a.id).cmp(&(&b.captioner, &b.instruction, &b.id)));
    write(&captions_file, &captions, &[])?;
    write(&folder.path("items.csv"), &rows, &config.metrics)?;
    store.join(&features)?;
    let results = results(config, cells, &rows, &features, style)?;
    write(&folder.path("results.csv"), &results, &config.metrics)?;
    manifest.finish(folder)?;
    let failed: Vec<ItemRow> = rows.iter().filter(|row| row.status != "done").cloned().collect();
    if failed.len() == rows.len()
        && let Some(first) = failed.first()
    {
        bail!("every picture failed, the first ({} under {}): {}", first.id, first.strategy, first.error);
    }
    Ok(Summary { results, failed, pictures: rows.len() })
}

/// The folders that hold pictures.
fn places(plan: &Plan, config: &Config) -> Vec<String> {
    let kinds: &[&str] = if config.keep_drawn { &["images", "drawn"] } else { &["images"] };
    kinds.iter().flat_map(|kind| plan.cells.iter().map(move |cell| format!("{kind}/{}", cell.strategy))).collect()
}

/// The features of the style pictures, at the size of the comparison; computed once a run. A style
/// picture that cannot be read is an error: every strategy is measured against all of them.
fn style_features(
    plan: &Plan,
    config: &Config,
    store: &FeatureStore,
    judge: &dyn Judge,
    batch_size: usize,
    progress: Progress,
) -> Result<Vec<Vec<f32>>> {
    if let Some(style) = store.style()?
        && style.len() == plan.style_pictures.len()
    {
        return Ok(style);
    }
    let bar = progress.bar("style", plan.style_pictures.len(), 0);
    let batch_size = config.batch_size.unwrap_or(batch_size);
    let mut decoded = images::stream(plan.style_pictures.clone(), ahead(batch_size));
    let mut features = Vec::new();
    let side = config.comparison_size;
    while features.len() < plan.style_pictures.len() {
        let mut batch = Vec::new();
        for (_, picture) in decoded.by_ref().take(batch_size) {
            batch.push(resize(&picture.context("style_pictures")?, side, side, Filter::Bicubic));
        }
        if batch.is_empty() {
            break;
        }
        bar.inc(batch.len() as u64);
        features.extend(judge.features(&batch)?);
    }
    bar.finish_and_clear();
    store.write_style(&features)?;
    Ok(features)
}
