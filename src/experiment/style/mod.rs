//! Style experiments: photos described, drawn again in a style, and compared with photo and style.
//!
//! ```text
//! config ─► plan (axes → cells) ─► runner: describe ─► draw ─► record ─► results
//!                                    │                           ▲
//!                                  models (captioner, generator, scorer)
//! ```
//! `config.toml`, `manifest.json`, `items.csv` and `results.csv` as in every run folder; also `captions.csv`, `comparisons.csv`,
//! `effects.csv` where two axes or more vary,
//! `images/STRATEGY/ID.png` and `photos/ID.png` at the size of the comparison, `features/` (so that FID needs no picture
//! twice), `gallery/`, and with `keep_drawn` `drawn/STRATEGY/ID.png` at the size at which the pictures were drawn.

mod axes;
mod batches;
mod comparisons;
pub mod config;
mod controlnets;
mod describe;
mod draw;
mod effects;
mod embed;
pub mod features;
mod ip_images;
pub mod models;
mod photos;
pub mod plan;
mod record;
mod results;
mod runner;
mod style_pictures;
mod terminal;

pub use axes::Axes;
pub use config::Config;
pub use plan::Plan;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::features::{FeatureStore, Features, key};
use self::models::Models;
use self::plan::Cell;
use crate::axes::{AxisValue, captioner, control, generator, ip_adapter, lora, seed};
use crate::experiment::embed::LABEL as MEASURING;
use crate::experiment::extent::{DataSource, Extent, png_bytes};
use crate::experiment::folder::RunFolder;
use crate::experiment::kind::{Failure, Inputs, Item, Kind, Part, SCORING, Work};
use crate::experiment::manifest::Facts;
use crate::experiment::models::{Needed, OnThisMachine, Role};
use crate::images::{self, ControlMap};
use crate::metrics::image::networks::Network;
use crate::metrics::{asked_names, of_pictures};
use crate::models::{IpAdapterChoice, LoraChoice};
use crate::run::csv::{read_growing, write};
use crate::run::journal::Journal;
use crate::run::layout::{image_path, photo_path};
use crate::run::style::{CaptionRow, ItemRow, ResultRow};
use crate::workers::Desk;

/// Describe, compose a prompt, draw, compare with photo and style.
#[derive(Debug)]
pub struct StyleTransfer;

/// The features of a run's pictures.
#[derive(Debug)]
pub struct Kept {
    pub store: FeatureStore,
    pub features: Features,
}

impl Kind for StyleTransfer {
    const ITEMS: &'static str = "pictures";
    const BUILT_IN: &'static str = "style_ablation";
    const FOLDERS: &'static [&'static str] = &["photos", "images", "drawn"];

    type Config = Config;
    type Plan = Plan;
    type Item = ItemRow;
    type Result = ResultRow;
    type Models = dyn Models;
    type Kept = Kept;

    fn plan(config: &Config) -> Result<Plan> {
        Plan::new(config)
    }

    fn items(plan: &Plan) -> usize {
        plan.len()
    }

    fn introduce(plan: &Plan, config: &Config, out: &str, place: (String, String)) -> Vec<String> {
        terminal::introduce(plan, config, out, place)
    }

    fn probe(plan: &Plan, config: &Config) -> Result<()> {
        plan.probe(config)
    }

    fn on(machine: &OnThisMachine) -> &Self::Models {
        machine
    }

    fn stages(config: &Config) -> &'static [&'static str] {
        const ALL: [&str; 5] = [style_pictures::LABEL, describe::LABEL, draw::LABEL, MEASURING, SCORING];
        const WITHOUT: [&str; 4] = [style_pictures::LABEL, describe::LABEL, draw::LABEL, SCORING];
        if config.embeddings().next().is_some() { &ALL } else { &WITHOUT }
    }

    fn needs(config: &Config) -> Vec<Needed> {
        let captioners = config.axes.texts(&captioner::AXIS).map(|name| Needed::new(name, Role::Captioner));
        let generators = config.axes.texts(&generator::AXIS).map(|name| Needed::new(name, Role::Generator));
        let loras: BTreeSet<PathBuf> =
            config.axes.texts(&lora::AXIS).flat_map(LoraChoice::list).map(|choice| choice.file).collect();
        let loras = loras.into_iter().map(|file| Needed::new(file.to_string_lossy(), Role::Lora));
        let maps: BTreeSet<ControlMap> = config.axes.values(&control::AXIS).filter_map(control::map).collect();
        let controlnets: BTreeSet<&str> = maps.into_iter().filter_map(|map| config.controlnet(map)).collect();
        let choices = config.axes.texts(&ip_adapter::AXIS).filter_map(IpAdapterChoice::read);
        let shown: BTreeSet<(PathBuf, Role)> = choices
            .flat_map(|choice| {
                let pictures = choice.pictures.into_iter().map(|picture| (picture, Role::IpImages));
                [(choice.file, Role::IpAdapter)].into_iter().chain(pictures)
            })
            .collect();
        let shown = shown.into_iter().map(|(file, role)| Needed::new(file.to_string_lossy(), role));
        let networks: BTreeSet<Network> = config.embeddings().map(|(_, embedding)| embedding.network).collect();
        captioners
            .chain(generators)
            .chain(loras)
            .chain(controlnets.into_iter().map(|name| Needed::new(name, Role::ControlNet)))
            .chain(shown)
            .chain(networks.into_iter().map(|network| Needed::new(config.network(network), Role::Network(network))))
            .chain([
                Needed::new(&config.inception, Role::Inception),
                Needed::new(&config.lpips_backbone, Role::LpipsBackbone),
                Needed::new(&config.lpips_linear, Role::LpipsLinear),
            ])
            .collect()
    }

    fn check(plan: &Plan, config: &Config, models: &dyn Models) -> Result<()> {
        runner::check(plan, config, models)
    }

    fn extent(plan: &Plan, config: &Config, models: &dyn Models) -> Extent {
        let small = png_bytes(config.comparison_size.into(), config.comparison_size.into());
        let drawn = |cell: &Cell| {
            // A generator that is not there draws at the size of most.
            let own = models.outline(cell.text(&generator::AXIS)).map_or((1024, 1024), |outline| outline.own_size());
            let (width, height) = photos::drawn_size(config, own);
            png_bytes(width as u64, height as u64)
        };
        let drawn: u64 = if config.keep_drawn { plan.cells.iter().map(drawn).sum() } else { 0 };
        let photos = plan.photos.len() as u64;
        // A photo, and for each strategy a picture with its features and rows; plots and pages beside them.
        let bytes = photos * (small + drawn + plan.cells.len() as u64 * (small + (24 << 10))) + (32 << 20);
        let source = |name: &str, path: &Path, pictures, found, is_item| DataSource {
            name: name.to_string(),
            path: path.to_path_buf(),
            pictures,
            found,
            is_item,
        };
        let style = plan.style_pictures.len();
        Extent {
            strategies: plan.cells.iter().map(|cell| cell.strategy.clone()).collect(),
            data: vec![
                source("photos", &config.photos, plan.photos.len(), plan.photos_found, true),
                source("style_pictures", &config.style_pictures, style, style, false),
            ],
            metrics: asked_names(&config.shared.metrics, of_pictures().map(|metric| metric.about())),
            bytes,
        }
    }

    fn facts(plan: &Plan, config: &Config, _models: &dyn Models) -> Facts {
        Facts {
            strategies: plan.cells.len(),
            photos: plan.photos.len(),
            style_pictures: plan.style_pictures.len(),
            seeds: config.axes.values(&seed::AXIS).filter_map(AxisValue::whole).collect(),
            ..Facts::default()
        }
    }

    fn lay_out(folder: &RunFolder, plan: &Plan, config: &Config) -> Result<Kept> {
        folder.make("photos")?;
        let kinds: &[&str] = if config.keep_drawn { &["images", "drawn"] } else { &["images"] };
        for kind in kinds {
            plan.cells.iter().try_for_each(|cell| folder.make(&format!("{kind}/{}", cell.strategy)))?;
        }
        let (store, features) = FeatureStore::open(&folder.dir)?;
        Ok(Kept { store, features })
    }

    fn belongs<'a>(folder: &'a RunFolder, plan: &'a Plan, kept: &'a Kept) -> Box<dyn Fn(&ItemRow) -> bool + 'a> {
        let planned: BTreeSet<(&str, &str)> = plan
            .cells
            .iter()
            .flat_map(|cell| plan.photos.iter().map(move |photo| (cell.strategy.as_str(), photo.id.as_str())))
            .collect();
        Box::new(move |row| {
            planned.contains(&(row.strategy.as_str(), row.id.as_str()))
                && kept.features.contains_key(&key(&row.strategy, &row.id))
                // What a row of a folder that was received says of its files counts for nothing else.
                && row.image == image_path(&row.strategy, &row.id)
                && row.photo == photo_path(&row.id)
                && folder.path(&row.image).exists()
                && folder.path(&row.photo).exists()
        })
    }

    fn fingerprint(plan: &Plan) -> Vec<String> {
        let cells = plan.cells.iter().map(|cell| cell.strategy.clone());
        let photos = plan.photos.iter().map(|photo| photo.id.clone());
        cells.chain(photos).chain(plan.style_pictures.iter().map(|file| images::path_text(file))).collect()
    }

    fn serve(inputs: Inputs<Self>, desk: &mut Desk) -> Result<()> {
        runner::serve(inputs, desk)
    }

    fn work(work: &Work<Self>, journal: Journal<ItemRow>, kept: &mut Kept) -> Result<Vec<ItemRow>> {
        runner::work(work, journal, kept)
    }

    fn measure(work: &Work<Self>, rows: &mut [ItemRow]) -> Result<()> {
        embed::embed(work, rows)
    }

    fn results(folder: &RunFolder, config: &Config, kept: &Kept, rows: &mut Vec<ItemRow>) -> Result<Vec<ResultRow>> {
        runner::conclude(folder, config, kept, rows)
    }

    fn join(folder: &RunFolder, config: &Config, parts: &[Part<Self>]) -> Result<Kept> {
        let (store, _) = FeatureStore::open(&folder.dir)?;
        let (mut captions, mut features) = (Vec::new(), Features::new());
        let mut style = None;
        for part in parts {
            captions.extend(read_growing::<CaptionRow>(&part.dir.join("captions.csv"))?);
            let (own, own_features) = FeatureStore::open(&part.dir)?;
            features.extend(own_features);
            let shown = part.dir.display();
            let own = own.style()?.with_context(|| format!("{shown}: no features of the style pictures"))?;
            match &style {
                None => style = Some(own),
                Some(first) if *first == own => {}
                Some(_) => bail!("{shown}: its style pictures differ from those of {}", parts[0].dir.display()),
            }
        }
        write(&folder.path("captions.csv"), &captions, &[])?;
        store.write_style(&style.context("no shards")?)?;
        embed::take_over(&parts.iter().map(|part| part.dir.as_path()).collect::<Vec<_>>(), config, &folder.dir)?;
        Ok(Kept { store, features })
    }

    fn join_facts(first: Facts, all: &[&Facts]) -> Facts {
        Facts { photos: all.iter().map(|facts| facts.photos).sum(), ..first }
    }

    fn table(results: &[ResultRow]) -> Vec<String> {
        terminal::table(results)
    }
}

impl Item for ItemRow {
    type Key = (String, String);

    fn key(&self) -> (String, String) {
        (self.strategy.clone(), self.id.clone())
    }

    fn is_done(&self) -> bool {
        self.status == "done"
    }

    fn failure(&self) -> Failure {
        Failure { thing: self.id.clone(), way: "under", name: self.strategy.clone(), error: self.error.clone() }
    }

    fn every_failure(&self) -> String {
        format!("every picture failed, the first ({} under {}): {}", self.id, self.strategy, self.error)
    }
}
