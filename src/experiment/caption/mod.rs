//! Caption experiments: models × data sets, from a TOML file to a run folder.
//!
//! ```text
//! config ─► plan (data sets opened) ─► captioning: decode ahead ─► caption ─► items.csv ─► results
//! ```
//! ```text
//! config.toml, manifest.json, items.csv, results.csv as in every run folder
//! comparisons.csv              each two models on each data set, every metric
//! references/DATASET.json      what people wrote, as `evaluate captions` takes it
//! pictures/DATASET/ID.jpg      thumbnails, so that the report needs nothing else
//! ```

mod captioning;
mod clip;
pub mod config;
pub mod plan;
mod references;
mod results;
mod terminal;

pub use config::CaptionConfig;
pub use plan::CaptionPlan;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use self::captioning::{Caption, Captions};
use self::plan::{Part, variants};
use self::references::References;
use super::embed::Embed;
use super::extent::{DataSource, Extent, png_bytes};
use super::folder::RunFolder;
use super::kind::{self, Failure, Inputs, Item, Kind, SCORING, Work};
use super::manifest::{DataSet, Facts};
use super::models::{Captioners, Needed, OnThisMachine, Role};
use super::stage::pass;
use crate::metrics::image::networks::Network;
use crate::metrics::{asked_names, of_captions};
use crate::run::caption::{CaptionItem, CaptionResult};
use crate::run::csv::write;
use crate::run::journal::Journal;
use crate::workers::{Desk, Stage};

/// Describe pictures and compare with what people wrote.
#[derive(Debug)]
pub struct Captioning;

impl Kind for Captioning {
    const ITEMS: &'static str = "captions";
    const BUILT_IN: &'static str = "caption_benchmark";
    const FOLDERS: &'static [&'static str] = &["pictures"];

    type Config = CaptionConfig;
    type Plan = CaptionPlan;
    type Item = CaptionItem;
    type Result = CaptionResult;
    type Models = dyn Captioners;
    type Kept = References;

    fn plan(config: &CaptionConfig) -> Result<CaptionPlan> {
        CaptionPlan::new(config)
    }

    fn items(plan: &CaptionPlan) -> usize {
        plan.len()
    }

    fn introduce(plan: &CaptionPlan, config: &CaptionConfig, out: &str, place: (String, String)) -> Vec<String> {
        terminal::introduce(plan, config, out, place)
    }

    fn probe(plan: &CaptionPlan, _config: &CaptionConfig) -> Result<()> {
        plan.probe();
        Ok(())
    }

    fn on(machine: &OnThisMachine) -> &Self::Models {
        machine
    }

    fn stages(config: &CaptionConfig) -> &'static [&'static str] {
        const ALL: [&str; 3] = [captioning::LABEL, Embed::LABEL, SCORING];
        const WITHOUT: [&str; 2] = [captioning::LABEL, SCORING];
        if clip::asked(config).next().is_some() { &ALL } else { &WITHOUT }
    }

    fn needs(config: &CaptionConfig) -> Vec<Needed> {
        let names: BTreeSet<&String> = config.models.0.iter().map(|(_, model)| &model.model).collect();
        let clip = clip::asked(config).next().map(|_| Needed::new(clip::model(config), Role::Network(Network::Clip)));
        names.into_iter().map(|name| Needed::new(name, Role::Captioner)).chain(clip).collect()
    }

    fn check(plan: &CaptionPlan, _config: &CaptionConfig, models: &dyn Captioners) -> Result<()> {
        for variant in &plan.variants {
            let label = || format!("model {}", variant.label);
            models.check_captions(&variant.model, &variant.options()).with_context(label)?;
        }
        Ok(())
    }

    fn extent(plan: &CaptionPlan, config: &CaptionConfig, _models: &dyn Captioners) -> Extent {
        let side = captioning::THUMBNAIL.into();
        let pictures: usize = plan.parts.iter().map(|part| part.set.items.len()).sum();
        let source = |part: &Part| DataSource {
            name: part.name.clone(),
            path: part.set.file.clone(),
            pictures: part.set.items.len(),
            found: part.found,
            is_item: true,
        };
        Extent {
            strategies: plan.variants.iter().map(|variant| variant.label.clone()).collect(),
            data: plan.parts.iter().map(source).collect(),
            metrics: asked_names(&config.shared.metrics, of_captions().map(|metric| metric.about())),
            // A thumbnail of each picture, a row of each caption, plots and pages.
            bytes: pictures as u64 * png_bytes(side, side) + plan.len() as u64 * 2048 + (32 << 20),
        }
    }

    fn facts(plan: &CaptionPlan, _config: &CaptionConfig, models: &dyn Captioners) -> Facts {
        let data_set = |part: &Part| DataSet {
            name: part.name.clone(),
            format: part.set.format.to_string(),
            file: part.set.file.clone(),
            split: part.set.split.clone(),
            pictures: part.set.items.len(),
            missing: part.set.missing.clone(),
            without_references: part.set.without_references.clone(),
            batch_size: part.batch_size.unwrap_or_else(|| models.captions_at_once(part.set.items.len())),
        };
        Facts { data_sets: plan.parts.iter().map(data_set).collect(), ..Facts::default() }
    }

    fn lay_out(folder: &RunFolder, plan: &CaptionPlan, _config: &CaptionConfig) -> Result<References> {
        for part in &plan.parts {
            folder.make(&format!("pictures/{}", part.name))?;
            part.set.remarks().iter().for_each(|remark| tracing::warn!("{}: {remark}", part.name));
        }
        let of = |part: &Part| part.set.items.iter().map(|item| (item.id.clone(), item.references.clone())).collect();
        let references: References = plan.parts.iter().map(|part| (part.name.clone(), of(part))).collect();
        references::save(folder, &references)?;
        Ok(references)
    }

    fn belongs<'a>(
        folder: &'a RunFolder,
        plan: &'a CaptionPlan,
        _kept: &'a References,
    ) -> Box<dyn Fn(&CaptionItem) -> bool + 'a> {
        let thumbnails = |part: &Part| -> BTreeMap<String, String> {
            part.set.items.iter().map(|item| (item.id.clone(), part.thumbnail(item))).collect()
        };
        let planned: BTreeMap<&str, BTreeMap<String, String>> =
            plan.parts.iter().map(|part| (part.name.as_str(), thumbnails(part))).collect();
        Box::new(move |row| {
            planned.get(row.dataset.as_str()).and_then(|items| items.get(&row.id)) == Some(&row.image)
                && plan.variants.iter().any(|variant| variant.label == row.model)
                && folder.path(&row.image).exists()
        })
    }

    fn fingerprint(plan: &CaptionPlan) -> Vec<String> {
        let variants = plan.variants.iter().map(|variant| variant.label.clone());
        let items = plan.parts.iter().flat_map(|part| part.set.items.iter().map(|item| item.id.clone()));
        variants.chain(items).collect()
    }

    fn serve(inputs: Inputs<Self>, desk: &mut Desk) -> Result<()> {
        while let Some(stage) = desk.stage() {
            match stage.as_str() {
                Caption::LABEL => desk.run(&Caption::new(inputs))?,
                Embed::LABEL => desk.run(&clip::stage(inputs))?,
                other => bail!("no stage is called {other}"),
            }
        }
        Ok(())
    }

    fn work(work: &Work<Self>, journal: Journal<CaptionItem>, _kept: &mut References) -> Result<Vec<CaptionItem>> {
        let mut captions = Captions { work, stage: Caption::new(work.inputs()), journal, rows: Vec::new() };
        pass(&mut captions, work.progress, &work.crew, None)?;
        Ok(captions.rows)
    }

    fn measure(work: &Work<Self>, rows: &mut [CaptionItem]) -> Result<()> {
        clip::fill(work, rows)
    }

    fn results(
        folder: &RunFolder,
        config: &CaptionConfig,
        kept: &References,
        rows: &mut Vec<CaptionItem>,
    ) -> Result<Vec<CaptionResult>> {
        let variants = variants(config)?;
        let datasets: Vec<&str> = config.datasets.0.iter().map(|(name, _)| name.as_str()).collect();
        let variant = |row: &CaptionItem| variants.iter().position(|variant| variant.label == row.model);
        let dataset = |row: &CaptionItem| datasets.iter().position(|name| *name == row.dataset);
        rows.sort_by(|a, b| (dataset(a), variant(a), &a.id).cmp(&(dataset(b), variant(b), &b.id)));
        let scored = results::score(&variants, &datasets, rows, kept, &config.shared.metrics)?;
        write(&folder.path("comparisons.csv"), &scored.comparisons, &[])?;
        Ok(scored.results)
    }

    fn join(folder: &RunFolder, config: &CaptionConfig, parts: &[kind::Part<Self>]) -> Result<References> {
        let mut references = References::new();
        for part in parts {
            for (name, _) in &config.datasets.0 {
                references.entry(name.clone()).or_default().extend(references::read(&part.dir, name)?);
            }
        }
        references::save(folder, &references)?;
        Ok(references)
    }

    fn join_facts(first: Facts, all: &[&Facts]) -> Facts {
        let mut whole = first;
        for data_set in &mut whole.data_sets {
            let same = all.iter().flat_map(|facts| &facts.data_sets).filter(|other| other.name == data_set.name);
            data_set.pictures = same.map(|other| other.pictures).sum();
        }
        whole
    }

    fn table(results: &[CaptionResult]) -> Vec<String> {
        terminal::table(results)
    }
}

impl Item for CaptionItem {
    type Key = (String, String, String);

    fn key(&self) -> (String, String, String) {
        (self.model.clone(), self.dataset.clone(), self.id.clone())
    }

    fn is_done(&self) -> bool {
        CaptionItem::is_done(self)
    }

    fn failure(&self) -> Failure {
        let thing = format!("{} of {}", self.id, self.dataset);
        Failure { thing, way: "by", name: self.model.clone(), error: self.error.clone() }
    }

    fn every_failure(&self) -> String {
        format!("every caption failed, the first ({} by {}): {}", self.id, self.model, self.error)
    }
}
