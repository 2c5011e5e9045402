//! What a style run does: checks its plan, describes, draws, and comes to results.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use image::RgbImage;

use super::batches::request;
use super::comparisons::comparisons;
use super::config::Config;
use super::describe::{Describe, Describing, caption_options};
use super::draw::{Draw, Drawing, Origins, first_generator, origins};
use super::effects::effects;
use super::embed::{self, Embeddings};
use super::features::{FeatureStore, Features, key};
use super::models::{ImageScorer, Models};
use super::photos::Photos;
use super::plan::{Cell, Plan, cells};
use super::record::Recorder;
use super::results::{self, Measured, StyleMean, options};
use super::style_pictures::{Measure, Measuring};
use super::{Kept, StyleTransfer};
use crate::axes::{captioner, generator, instruction, scheduler, style_text};
use crate::error::usage;
use crate::experiment::embed::Embed;
use crate::experiment::folder::RunFolder;
use crate::experiment::kind::{Inputs, Kind, Work};
use crate::experiment::models::Role;
use crate::experiment::stage::{hint, pass};
use crate::models::{GenerateRequest, Outline};
use crate::run::csv::{read_growing, write};
use crate::run::gallery_score::score;
use crate::run::journal::Journal;
use crate::run::style::{CaptionRow, ItemRow, ResultRow};
use crate::runtime::during;
use crate::workers::{Desk, Hint, Stage};

/// What can be known to be wrong before any model is loaded: instructions, style texts
/// that do not fit the text encoder, schedulers, sizes, strengths and steps that a generator cannot draw with.
pub fn check(plan: &Plan, config: &Config, models: &dyn Models) -> Result<()> {
    check_safety_checkers(config, models)?;
    Photos::new(plan, config, models)?;
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
    if let Some(control) = &mut request.control {
        control.images = vec![RgbImage::new(width as u32, height as u32)];
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
    let inputs = work.inputs();
    // Before anything else, since what is wrong with it ends the run; workers have their own.
    let scorer: Box<dyn ImageScorer> = if work.crew.borrow().is_some() {
        Box::new(Elsewhere)
    } else {
        during("metric networks", || work.models.scorer(work.config))?
    };
    let scorer = scorer.as_ref();
    let photos = Arc::new(Photos::new(work.plan, work.config, work.models)?);
    let mut describing = Describing::new(work, photos.clone())?;
    let drawn_by = first_generator(work).map(|model| Hint { stage: Draw::LABEL, model });
    let then = hint(&describing).or_else(|| drawn_by.clone());
    let style = style_features(work, &kept.store, scorer, then.as_ref())?;
    pass(&mut describing, work.progress, &work.crew, drawn_by.as_ref())?;
    let descriptions = describing.descriptions;
    let origins = if work.crew.borrow().is_some() { Origins::new() } else { origins(inputs)? };
    let mut drawing = Drawing {
        work,
        stage: Draw::new(inputs, scorer, origins, photos.clone()),
        descriptions: &descriptions,
        style: &StyleMean::of(&style),
        recorder: Recorder::start(work.folder.dir.clone(), journal, kept.store.clone()),
        rows: Vec::new(),
        features: Features::new(),
        saved: BTreeSet::new(),
        said: BTreeSet::new(),
    };
    pass(&mut drawing, work.progress, &work.crew, None)?;
    let Drawing { recorder, rows, features, .. } = drawing;
    during("last pictures", || recorder.finish())?;
    photos.say_without_face(work.plan, &rows);
    kept.features.extend(features);
    Ok(rows)
}

/// Does, as a worker, what [`work`] asks for.
pub fn serve(inputs: Inputs<StyleTransfer>, desk: &mut Desk) -> Result<()> {
    let (scorer, origins) = (inputs.models.scorer(inputs.config)?, origins(inputs)?);
    let scorer = scorer.as_ref();
    let photos = Arc::new(Photos::new(inputs.plan, inputs.config, inputs.models)?);
    while let Some(stage) = desk.stage() {
        match stage.as_str() {
            Measure::LABEL => desk.run(&Measure { inputs, scorer })?,
            Describe::LABEL => desk.run(&Describe { inputs, photos: photos.clone() })?,
            Draw::LABEL => desk.run(&Draw::new(inputs, scorer, origins.clone(), photos.clone()))?,
            Embed::LABEL => desk.run(&embed::stage(inputs))?,
            other => bail!("no stage is called {other}"),
        }
    }
    Ok(())
}

/// In the place of the scorer where the workers have one each.
struct Elsewhere;

impl ImageScorer for Elsewhere {
    fn features(&self, _pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        bail!("pictures are measured by the workers")
    }

    fn lpips(&self, _photos: &[RgbImage], _pictures: &[RgbImage]) -> Result<Vec<f64>> {
        bail!("pictures are measured by the workers")
    }
}

/// The features of the style pictures: kept from an earlier run, or measured now.
fn style_features(
    work: &Work<StyleTransfer>,
    store: &FeatureStore,
    scorer: &dyn ImageScorer,
    then: Option<&Hint>,
) -> Result<Vec<Vec<f32>>> {
    if let Some(style) = store.style()?
        && style.len() == work.plan.style_pictures.len()
    {
        return Ok(style);
    }
    let mut measuring = Measuring::new(Measure { inputs: work.inputs(), scorer });
    pass(&mut measuring, work.progress, &work.crew, then)?;
    store.write_style(&measuring.features)?;
    Ok(measuring.features)
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
