//! What a style run does: checks its plan, describes, draws, and comes to results.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use image::RgbImage;

use super::comparisons::comparisons;
use super::config::Config;
use super::describe::{caption_options, describe_photos};
use super::draw::{Drawing, Seen, origins, request};
use super::effects::effects;
use super::embed::Embeddings;
use super::features::{Features, key};
use super::models::Models;
use super::plan::{Cell, Plan, cells};
use super::record::Recorder;
use super::results::{self, Measured, StyleMean, options};
use super::style_pictures::style_features;
use super::{Kept, StyleTransfer};
use crate::axes::{captioner, generator, instruction, scheduler, style_text};
use crate::error::usage;
use crate::experiment::folder::RunFolder;
use crate::experiment::kind::{Kind, Work};
use crate::experiment::models::Role;
use crate::experiment::stage::pass;
use crate::models::{GenerateRequest, Outline};
use crate::run::csv::{read_growing, write};
use crate::run::gallery_score::score;
use crate::run::journal::Journal;
use crate::run::style::{CaptionRow, ItemRow, ResultRow};

/// What can be known to be wrong before any model is loaded: instructions, style texts
/// that do not fit the text encoder, schedulers, sizes, strengths and steps that a generator cannot draw with.
pub fn check(plan: &Plan, config: &Config, models: &dyn Models) -> Result<()> {
    check_safety_checkers(config, models)?;
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

/// That every generator has a safety checker, where one is asked for.
fn check_safety_checkers(config: &Config, models: &dyn Models) -> Result<()> {
    let generators = StyleTransfer::needs(config).into_iter().filter(|needed| needed.role == Role::Generator);
    for needed in generators.filter(|_| config.safety_checker) {
        let path = models.find(&needed)?;
        if !path.join("safety_checker/config.json").is_file() {
            let (name, path) = (needed.name, path.display());
            return Err(usage(format!("safety_checker = true, but {name} has no safety checker in {path}")));
        }
    }
    Ok(())
}

/// Describes and draws what is not there yet.
pub fn work(work: &Work<StyleTransfer>, journal: Journal<ItemRow>, kept: &mut Kept) -> Result<Vec<ItemRow>> {
    if !work.is_pending() && kept.store.style()?.is_some_and(|style| style.len() == work.plan.style_pictures.len()) {
        return Ok(Vec::new());
    }
    // First, since a style picture that is damaged behind its header ends the run.
    let judge = work.models.judge(work.config)?;
    let style = StyleMean::of(&style_features(work, &kept.store, judge.as_ref())?);
    let descriptions = describe_photos(work)?;
    let mut drawing = Drawing {
        work,
        judge: judge.as_ref(),
        descriptions: &descriptions,
        style: &style,
        origins: origins(work)?,
        recorder: Recorder::start(journal, kept.store.clone()),
        rows: Vec::new(),
        features: Features::new(),
        seen: Seen::new(),
        said: BTreeSet::new(),
    };
    pass(&mut drawing, work.progress)?;
    let Drawing { recorder, rows, features, .. } = drawing;
    recorder.finish()?;
    kept.features.extend(features);
    Ok(rows)
}

/// Puts the rows in order and computes the results from them.
pub fn conclude(folder: &RunFolder, config: &Config, kept: &Kept, rows: &mut [ItemRow]) -> Result<Vec<ResultRow>> {
    let cells = cells(&config.axes)?;
    let rank = |strategy: &str| cells.iter().position(|cell| cell.strategy == strategy);
    rows.sort_by(|a, b| rank(&a.strategy).cmp(&rank(&b.strategy)).then_with(|| a.id.cmp(&b.id)));
    let embeddings = Embeddings::read(&folder.dir, config)?;
    embeddings.fill(config, rows)?;
    score(rows);
    let features: Features = rows
        .iter()
        .filter_map(|row| kept.features.get_key_value(&key(&row.strategy, &row.id)))
        .map(|(key, feature)| (key.clone(), feature.clone()))
        .collect();
    let captions_file = folder.path("captions.csv");
    let mut captions = read_growing::<CaptionRow>(&captions_file)?;
    captions.sort_by(|a, b| (&a.captioner, &a.instruction, &a.id).cmp(&(&b.captioner, &b.instruction, &b.id)));
    write(&captions_file, &captions, &[])?;
    write(&folder.path("items.csv"), rows, &config.shared.metrics)?;
    kept.store.join(&features)?;
    let style = kept.store.style()?.context("the features of the style pictures are gone")?;
    let options = options(config);
    let measured = Measured { features: &features, style: &style, embeddings: &embeddings };
    let scored = results::score(config, &options, &cells, rows, &measured)?;
    write(&folder.path("comparisons.csv"), &comparisons(config, &scored)?, &[])?;
    if let Some(effects) = effects(config, &scored)? {
        write(&folder.path("effects.csv"), &effects, &[])?;
    }
    Ok(scored.into_iter().map(|strategy| strategy.result).collect())
}
