//! The features that only some metrics ask for: of a run's pictures, and of what they are compared with, in CLIP, CSD and
//! DINOv2.
//!
//! They are computed when all pictures are drawn, from the run folder alone, each once and for all metrics together, and
//! kept under `features/NETWORK/`: a run that is asked for another metric later draws nothing again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::StyleTransfer;
use super::config::Config;
use super::features::{FeatureStore, Features, key};
use crate::experiment::kind::{Item, Work};
use crate::experiment::progress::Bar;
use crate::images::{self, Filter, resize};
use crate::metrics::image::Embedder;
use crate::metrics::image::embedded::{Beside, Embedded, Embedding};
use crate::metrics::image::networks::Network;
use crate::run::layout::{image_path, photo_path};
use crate::run::style::ItemRow;

/// Of its bar.
pub const LABEL: &str = "measuring";

/// Pictures or texts that a network sees at a time.
const BATCH: usize = 64;
/// So many are computed before they are written.
const CHUNK: usize = 1024;

/// What is described by a network, each kind in a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    /// By `STRATEGY/ID`.
    Images,
    /// By id.
    Photos,
    /// By the hash of the text.
    Prompts,
    /// By number.
    StylePictures,
}

impl Of {
    fn folder(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Photos => "photos",
            Self::Prompts => "prompts",
            Self::StylePictures => "style",
        }
    }
}

impl From<Beside> for Of {
    fn from(beside: Beside) -> Self {
        match beside {
            Beside::Photos => Self::Photos,
            Beside::Prompts => Self::Prompts,
            Beside::StylePictures => Self::StylePictures,
        }
    }
}

/// What a run's metrics need: networks, and of what.
fn needed(config: &Config) -> BTreeSet<(Network, Of)> {
    config
        .embeddings()
        .flat_map(|(_, Embedding { network, beside })| [(network, Of::Images), (network, beside.into())])
        .collect()
}

fn store(run: &Path, network: Network, of: Of) -> Result<(FeatureStore, Features)> {
    FeatureStore::at(&run.join("features").join(network.model()).join(of.folder()))
}

fn hashed(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

/// Computes what is missing for the rows that are done.
pub fn embed(work: &Work<StyleTransfer>, rows: &[ItemRow]) -> Result<()> {
    let Work { plan, config, folder, models, progress, .. } = work;
    let done = || rows.iter().filter(|row| row.is_done());
    // What this process drew may have stood there otherwise before.
    let redrawn: BTreeSet<String> =
        done().filter(|row| !work.done.contains(&row.key())).map(|row| key(&row.strategy, &row.id)).collect();
    let mut loaded: Option<(Network, Box<dyn Embedder>)> = None;
    for (network, of) in needed(config) {
        let (mut store, mut known) = store(&folder.dir, network, of)?;
        let wanted: BTreeMap<String, Source> = match of {
            Of::Images => done()
                .map(|row| (key(&row.strategy, &row.id), folder.path(&image_path(&row.strategy, &row.id)).into()))
                .collect(),
            Of::Photos => done().map(|row| (row.id.clone(), folder.path(&photo_path(&row.id)).into())).collect(),
            Of::Prompts => done().map(|row| (hashed(&row.prompt), Source::Text(row.prompt.clone()))).collect(),
            Of::StylePictures => {
                let files = plan.style_pictures.iter().enumerate();
                files.map(|(at, file)| (format!("{at:08}"), file.clone().into())).collect()
            }
        };
        let before = known.len();
        known.retain(|name, _| wanted.contains_key(name) && !(of == Of::Images && redrawn.contains(name)));
        if of == Of::StylePictures && before != wanted.len() {
            // Of another set of pictures.
            known.clear();
        }
        let missing: Vec<(&String, &Source)> = wanted.iter().filter(|(name, _)| !known.contains_key(*name)).collect();
        if !missing.is_empty() {
            if loaded.as_ref().is_none_or(|(held, _)| *held != network) {
                // The old one goes before the new one comes.
                drop(loaded.take());
                loaded = Some((network, models.embedder(network, config.network(network))?));
            }
            let Some((_, net)) = &loaded else { continue };
            let bar = progress.bar(LABEL, missing.len(), 0);
            for chunk in missing.chunks(CHUNK) {
                let new = describe(net.as_ref(), chunk, config.comparison_size, &bar)?;
                store.add(&new)?;
                known.extend(new);
            }
        }
        if !missing.is_empty() || before != known.len() {
            store.join(&known)?;
        }
    }
    Ok(())
}

/// A picture's file, or a text.
enum Source {
    File(PathBuf),
    Text(String),
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// All are files, or all are texts.
fn describe(net: &dyn Embedder, sources: &[(&String, &Source)], side: u32, bar: &Bar) -> Result<Features> {
    let file = |source: &Source| match source {
        Source::File(path) => Some(path.clone()),
        Source::Text(_) => None,
    };
    let files: Vec<PathBuf> = sources.iter().filter_map(|(_, source)| file(source)).collect();
    let mut decoded = images::stream_with(files, 2 * BATCH, move |path: &PathBuf| {
        Ok(resize(&images::load(path)?, side, side, Filter::Bicubic))
    });
    let mut features = Features::new();
    for batch in sources.chunks(BATCH) {
        let texts: Vec<String> = batch
            .iter()
            .filter_map(|(_, source)| match source {
                Source::Text(text) => Some(text.clone()),
                Source::File(_) => None,
            })
            .collect();
        let rows = if texts.is_empty() {
            let pictures =
                decoded.by_ref().take(batch.len()).map(|(_, picture)| picture).collect::<Result<Vec<_>>>()?;
            net.pictures(&pictures)?
        } else {
            net.texts(&texts)?
        };
        for ((name, source), row) in batch.iter().zip(rows) {
            if row.iter().any(|value| !value.is_finite()) {
                let shown = match source {
                    Source::File(path) => path.display().to_string(),
                    Source::Text(text) => format!("{text:?}"),
                };
                bail!("{shown}: its features are not all finite numbers: are the network's weights damaged?");
            }
            features.insert((*name).clone(), row);
        }
        bar.inc(batch.len() as u64);
    }
    Ok(features)
}

/// Joins what finished parts of a run hold in the folder of the whole.
pub fn take_over(parts: &[&Path], config: &Config, out: &Path) -> Result<()> {
    for (network, of) in needed(config) {
        let mut all = Features::new();
        for part in parts {
            all.extend(store(part, network, of)?.1);
        }
        store(out, network, of)?.0.join(&all)?;
    }
    Ok(())
}

/// All such features of a run.
#[derive(Debug)]
pub struct Embeddings(BTreeMap<(Network, Of), Features>);

impl Embeddings {
    pub fn read(run: &Path, config: &Config) -> Result<Self> {
        let read = |(network, of)| Ok(((network, of), store(run, network, of)?.1));
        Ok(Self(needed(config).into_iter().map(read).collect::<Result<_>>()?))
    }

    /// The features that a metric compares, of these rows of one strategy.
    pub fn of(&self, Embedding { network, beside }: Embedding, rows: &[&ItemRow]) -> Result<Embedded> {
        let all = |of: Of| self.0.get(&(network, of)).with_context(|| format!("no features in {}", network.model()));
        let matrix = |of: Of, name: &dyn Fn(&ItemRow) -> String| {
            let all = all(of)?;
            let row = |row: &&ItemRow| {
                all.get(&name(row)).with_context(|| {
                    format!("{} under {} has no features in {}: run it again", row.id, row.strategy, network.model())
                })
            };
            stacked(rows.iter().map(row).collect::<Result<Vec<_>>>()?)
        };
        let beside = match beside {
            Beside::Photos => matrix(Of::Photos, &|row| row.id.clone())?,
            Beside::Prompts => matrix(Of::Prompts, &|row| hashed(&row.prompt))?,
            Beside::StylePictures => stacked(all(Of::StylePictures)?.values().collect())?,
        };
        Ok(Embedded { pictures: matrix(Of::Images, &|row| key(&row.strategy, &row.id))?, beside })
    }

    /// Fills in the values that single pictures have.
    pub fn fill(&self, config: &Config, rows: &mut [ItemRow]) -> Result<()> {
        let strategies: BTreeSet<String> = rows.iter().map(|row| row.strategy.clone()).collect();
        for (metric, embedding) in config.embeddings() {
            for strategy in &strategies {
                let is_own = |row: &ItemRow| row.strategy == *strategy && row.status == "done";
                let own: Vec<&ItemRow> = rows.iter().filter(|row| is_own(row)).collect();
                if own.is_empty() {
                    continue;
                }
                let Some(values) = metric.of_embedded(&self.of(embedding, &own)?) else { break };
                let name = metric.about().name;
                let values = values.with_context(|| format!("{} of strategy {strategy}", metric.about().label))?;
                for (row, value) in rows.iter_mut().filter(|row| is_own(row)).zip(values) {
                    row.values.set_value(name, value.is_finite().then_some(value));
                }
            }
        }
        Ok(())
    }
}

/// [rows, features]
fn stacked(rows: Vec<&Vec<f32>>) -> Result<Tensor> {
    let width = rows.first().map_or(0, |row| row.len());
    if width == 0 || rows.iter().any(|row| row.len() != width) {
        bail!("features of no or of several widths: remove the folder features to compute them again");
    }
    let values: Vec<f32> = rows.iter().flat_map(|row| row.iter().copied()).collect();
    Ok(Tensor::from_slice(&values).view([rows.len() as i64, width as i64]))
}
