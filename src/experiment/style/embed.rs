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
use crate::experiment::embed::{BATCH, Embed, EmbedBatch, EmbeddingPass, Shown, Taker};
use crate::experiment::kind::{Inputs, Item, Work};
use crate::experiment::stage::pass;
use crate::images::{self, Filter, resize};
use crate::metrics::image::embedded::{Beside, Embedded, Embedding};
use crate::metrics::image::networks::Network;
use crate::run::layout::{image_path, photo_path};
use crate::run::style::ItemRow;
use crate::workers::Paths;

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

/// Networks and decoding, as a run's process and its workers have them.
pub fn stage<'a>(inputs: Inputs<'a, StyleTransfer>) -> Embed<'a> {
    let Inputs { config, models, .. } = inputs;
    let side = config.comparison_size;
    Embed {
        open: Box::new(|network| models.embedder(network, config.network(network))),
        decode: Box::new(move |shown| {
            let files = if let Shown::Files(Paths(files)) = shown { files.clone() } else { Vec::new() };
            let count = files.len();
            let load = move |path: &PathBuf| Ok(resize(&images::load(path)?, side, side, Filter::Bicubic));
            Box::new(images::stream_with(files, count, load).map(|(_, picture)| picture))
        }),
    }
}

/// What a network describes of one kind, as far as it is known.
struct Group {
    network: Network,
    store: FeatureStore,
    known: Features,
    /// Names and sources of what is missing.
    missing: Vec<(String, Source)>,
    /// Whether something was kept that is no longer wanted.
    is_stale: bool,
    /// Not written yet.
    new: Features,
}

impl Group {
    fn write(&mut self) -> Result<()> {
        let new = std::mem::take(&mut self.new);
        if !new.is_empty() {
            self.store.add(&new)?;
            self.known.extend(new);
        }
        Ok(())
    }

    /// Its batches, as the `at`-th group.
    fn batches(&self, at: usize) -> impl Iterator<Item = EmbedBatch> {
        self.missing.chunks(BATCH).enumerate().map(move |(number, some)| {
            let texts: Vec<String> = some.iter().filter_map(|(_, source)| source.text()).map(str::to_string).collect();
            let files = some.iter().filter_map(|(_, source)| source.file()).map(Path::to_path_buf).collect();
            let shown = if texts.is_empty() { Shown::Files(Paths(files)) } else { Shown::Texts(texts) };
            EmbedBatch { group: at, start: number * BATCH, network: self.network.model().to_string(), shown }
        })
    }
}

impl Taker for Vec<Group> {
    fn take(&mut self, batch: &EmbedBatch, rows: Vec<Vec<f32>>) -> Result<()> {
        let group = &mut self[batch.group];
        let names = group.missing[batch.start..].iter().map(|(name, _)| name.clone());
        group.new.extend(names.zip(rows));
        if group.new.len() >= CHUNK { group.write() } else { Ok(()) }
    }

    fn name(&self, batch: &EmbedBatch, at: usize) -> String {
        match &self[batch.group].missing[batch.start + at].1 {
            Source::File(path) => path.display().to_string(),
            Source::Text(text) => format!("{text:?}"),
        }
    }
}

/// Computes what is missing for the rows that are done.
pub fn embed(work: &Work<StyleTransfer>, rows: &[ItemRow]) -> Result<()> {
    let groups = needed(work.config).into_iter().map(|(network, of)| group(work, rows, network, of));
    let groups = groups.collect::<Result<Vec<Group>>>()?;
    let batches: Vec<EmbedBatch> = groups.iter().enumerate().flat_map(|(at, group)| group.batches(at)).collect();
    let mut embedding = EmbeddingPass { stage: stage(work.inputs()), batches, taker: groups };
    if !embedding.batches.is_empty() {
        pass(&mut embedding, work.progress, &work.crew, None)?;
    }
    for mut group in embedding.taker {
        group.write()?;
        if group.is_stale || !group.missing.is_empty() {
            group.store.join(&group.known)?;
        }
    }
    Ok(())
}

fn group(work: &Work<StyleTransfer>, rows: &[ItemRow], network: Network, of: Of) -> Result<Group> {
    let Work { plan, folder, .. } = work;
    let done = || rows.iter().filter(|row| row.is_done());
    let (store, mut known) = store(&folder.dir, network, of)?;
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
    // What this process drew may have stood there otherwise before.
    let redrawn: BTreeSet<String> = match of {
        Of::Images => {
            done().filter(|row| !work.done.contains(&row.key())).map(|row| key(&row.strategy, &row.id)).collect()
        }
        _ => BTreeSet::new(),
    };
    known.retain(|name, _| wanted.contains_key(name) && !redrawn.contains(name));
    if of == Of::StylePictures && before != wanted.len() {
        // Of another set of pictures.
        known.clear();
    }
    let missing = wanted.into_iter().filter(|(name, _)| !known.contains_key(name)).collect();
    Ok(Group { network, store, is_stale: before != known.len(), known, missing, new: Features::new() })
}

/// A picture's file, or a text.
enum Source {
    File(PathBuf),
    Text(String),
}

impl Source {
    fn file(&self) -> Option<&Path> {
        if let Self::File(path) = self { Some(path) } else { None }
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
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
