//! A run of any kind from start to end: resumed, locked, recorded, and concluded.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::folder::RunFolder;
use super::kind::{Item, Key, Kind, SCORING, Summary, Work};
use super::manifest::Manifest;
use super::models::{Captioners, find_all};
use super::progress::Progress;
use super::serve::Task;
use super::settings::Settings;
use crate::run::csv::write;
use crate::run::guard;
use crate::run::journal::Journal;
use crate::runtime::during;
use crate::workers::Crew;

/// What can be known to be wrong before any model is loaded.
pub fn check<K: Kind>(plan: &K::Plan, config: &K::Config, models: &K::Models) -> Result<()> {
    K::probe(plan, config)?;
    find_all(&K::needs(config), models)?;
    K::check(plan, config, models)
}

/// Runs or continues a checked plan in its folder.
pub fn run<K: Kind>(
    plan: &K::Plan,
    config: &K::Config,
    dir: &Path,
    models: &K::Models,
    progress: Progress,
) -> Result<Summary<K>> {
    let progress = progress.of(K::stages(config));
    let folder = RunFolder::open(dir, config)?;
    config.shared().choose_rounding(&models.place().0);
    let files = find_all(&K::needs(config), models)?;
    let manifest = Manifest::begin(&folder, K::facts(plan, config, models), models.place(), files)?;
    folder.make("plots")?;
    let mut kept = K::lay_out(&folder, plan, config)?;
    let (journal, mut rows) = {
        let belongs = K::belongs(&folder, plan, &kept);
        // Failed items are tried again: their picture may have been mended.
        let keep = |row: &K::Item| row.is_done() && belongs(row);
        Journal::<K::Item>::open(&folder.path("items.csv"), &config.shared().metrics, keep)?
    };
    let done: BTreeSet<Key<K>> = rows.iter().map(Item::key).collect();
    if !done.is_empty() && done.len() < K::items(plan) {
        tracing::info!("{} of {} {} are there already", done.len(), K::items(plan), K::ITEMS);
    }
    let work = Work { plan, config, folder: &folder, models, progress, done, crew: RefCell::new(None) };
    if let Some(team) = models.team() {
        *work.crew.borrow_mut() = Some(Crew::new(team, &Task::of(&work)?)?);
    }
    rows.extend(K::work(&work, journal, &mut kept)?);
    K::measure(&work, &mut rows)?;
    // Nothing that follows needs a device, and what a killed worker left unfinished goes.
    if work.crew.borrow_mut().take().is_some() {
        guard::tidy(dir)?;
    }
    let _scoring = progress.stage(SCORING);
    during(SCORING, || conclude::<K>(&folder, config, &kept, rows, manifest))
}

/// Computes the results of all rows, and writes what belongs to a finished run.
pub(super) fn conclude<K: Kind>(
    folder: &RunFolder,
    config: &K::Config,
    kept: &K::Kept,
    mut rows: Vec<K::Item>,
    manifest: Manifest,
) -> Result<Summary<K>> {
    let asked = &config.shared().metrics;
    let results = K::results(folder, config, kept, &mut rows)?;
    write(&folder.path("items.csv"), &rows, asked)?;
    write(&folder.path("results.csv"), &results, asked)?;
    during("hashing models", || manifest.finish(folder)).context("the results are written, the manifest is not")?;
    let failed: Vec<K::Item> = rows.iter().filter(|row| !row.is_done()).cloned().collect();
    if failed.len() == rows.len()
        && let Some(first) = failed.first()
    {
        bail!("{}", first.every_failure());
    }
    Ok(Summary { results, failed, count: rows.len() })
}
