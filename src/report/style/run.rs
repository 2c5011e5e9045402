//! The folder of a style run, read.

use std::io::Read;
use std::path::Path;

use anyhow::{Result, bail};

use super::DECIDING;
use super::gallery::{Choice, choose, choose_rated};
use crate::error::usage;
use crate::metrics::About;
use crate::report::folder::Folder;
use crate::run::compared::correct;
use crate::run::csv;
use crate::run::gallery_score::score_where_missing;
use crate::run::guard;
use crate::run::people::People;
use crate::run::published::Published;
use crate::run::style::{Comparison, EffectRow, ItemRow, ResultRow};

const ITEM_COLUMNS: &[&str] =
    &["id", "strategy", "seed", "caption", "prompt", "dropped", "seconds", "lpips", "status", "error", "image"];
const RESULT_COLUMNS: &[&str] =
    &["strategy", "style_text", "n", "artfid", "fid", "lpips", "artfid_low", "artfid_high", "seconds_per_image"];
const COMPARISON_COLUMNS: &[&str] = &["metric", "first", "second", "difference", "low", "high", "p_value"];
const EFFECT_COLUMNS: &[&str] = &["axis", "value", "metric", "n", "mean", "low", "high", "p_value"];

/// A run folder of a style experiment. Only the two CSV files must be there.
#[derive(Debug, Clone, Default)]
pub struct StyleRun {
    pub folder: Folder,
    pub items: Vec<ItemRow>,
    /// A row per strategy, in the order of the file; a strategy of which only items are known comes after them.
    pub results: Vec<ResultRow>,
    /// How many of `results` are in the file.
    pub listed: usize,
    /// Pairs of strategies; none in a folder that was written before they were compared.
    pub comparisons: Vec<Comparison>,
    /// What the values of the axes do; none where fewer than two vary.
    pub effects: Vec<EffectRow>,
    /// How many features the network of FID has, where the run keeps features.
    pub features: Option<usize>,
    /// What people said in `toolkit view`.
    pub people: People,
    /// Results published elsewhere, by strategy.
    pub published: Vec<Published>,
}

impl StyleRun {
    /// Reads a run folder. A folder that is none is wrong usage; a damaged file is an error that
    /// names the file, the line and the column.
    pub fn read(dir: &Path) -> Result<Self> {
        guard::check(dir)?;
        let shown = dir.display();
        if !dir.is_dir() {
            return Err(usage(format!(
                "{shown} is not a folder: name the folder of a run, such as runs/style_ablation"
            )));
        }
        let (items, results) = (dir.join("items.csv"), dir.join("results.csv"));
        match (items.exists(), results.exists()) {
            (true, true) => {}
            (true, false) => {
                bail!("{shown} has no results.csv: this run did not finish; start it again to continue it")
            }
            (false, true) => bail!("{shown} has no items.csv: it was taken away, or this is not the whole run folder"),
            (false, false) => {
                return Err(usage(format!("{shown} is no run folder: it has no items.csv and no results.csv")));
            }
        }
        let mut run = Self {
            items: csv::read(&items, ITEM_COLUMNS)?,
            results: csv::read(&results, RESULT_COLUMNS)?,
            people: People::read(dir)?,
            features: features(dir),
            ..Self::default()
        };
        if run.results.is_empty() && run.items.is_empty() {
            bail!("{shown}: items.csv and results.csv have no rows: there is nothing to report");
        }
        score_where_missing(&mut run.items);
        run.check_strategies(&results)?;
        let comparisons = dir.join("comparisons.csv");
        if comparisons.exists() {
            run.comparisons = csv::read(&comparisons, COMPARISON_COLUMNS)?;
            correct(&mut run.comparisons);
        }
        let effects = dir.join("effects.csv");
        if effects.exists() {
            run.effects = csv::read(&effects, EFFECT_COLUMNS)?;
        }
        run.folder = Folder::read(dir)?;
        run.published = run.folder.published()?;
        Ok(run)
    }

    fn check_strategies(&mut self, file: &Path) -> Result<()> {
        for (at, row) in self.results.iter().enumerate() {
            if self.results[..at].iter().any(|earlier| earlier.strategy == row.strategy) {
                bail!("{}: strategy {:?} has two rows", file.display(), row.strategy);
            }
        }
        self.listed = self.results.len();
        for item in &self.items {
            if !self.results.iter().any(|row| row.strategy == item.strategy) {
                self.results.push(ResultRow { strategy: item.strategy.clone(), ..ResultRow::default() });
            }
        }
        Ok(())
    }

    /// Positions in `results`, best ArtFID first, the unmeasured last.
    pub fn ranking(&self) -> Vec<usize> {
        self.ranking_by(DECIDING)
    }

    /// The same by another metric.
    pub fn ranking_by(&self, metric: &About) -> Vec<usize> {
        let worst = if metric.higher_is_better { f64::NEG_INFINITY } else { f64::INFINITY };
        let mut order: Vec<usize> = (0..self.results.len()).collect();
        order.sort_by(|a, b| {
            let value = |at: &usize| self.results[*at].values.value(metric.name).unwrap_or(worst);
            let order = value(a).total_cmp(&value(b));
            if metric.higher_is_better { order.reverse() } else { order }.then(a.cmp(b))
        });
        order
    }

    /// The pictures that stand for a strategy: by what people said, by score where no one said anything.
    pub fn choice(&self, strategy: &str) -> Choice<'_> {
        let rated = choose_rated(self.items_of(strategy), &self.people.success());
        rated.unwrap_or_else(|| choose(self.items_of(strategy)))
    }

    /// A metric of one strategy less that of another, by `comparisons.csv`, whichever of them stands first there.
    pub fn compared(&self, metric: &str, first: &str, second: &str) -> Option<Comparison> {
        let is = |row: &&Comparison, a: &str, b: &str| row.metric == metric && row.first == a && row.second == b;
        let own = self.comparisons.iter().find(|row| is(row, first, second)).cloned();
        own.or_else(|| Some(self.comparisons.iter().find(|row| is(row, second, first))?.turned()))
    }

    /// What was published of a strategy.
    pub fn published_of(&self, row: &ResultRow) -> Option<&Published> {
        self.published.iter().find(|line| Published::is_of(&line.strategy, &row.strategy))
    }

    /// The items of one strategy, in the order of the file.
    pub fn items_of<'a>(&'a self, strategy: &str) -> impl Iterator<Item = &'a ItemRow> {
        self.items.iter().filter(move |item| item.strategy == strategy)
    }
}

/// The length of the features that the run keeps, from the head of their file alone.
fn features(dir: &Path) -> Option<usize> {
    /// A head is a line for each picture.
    const LONGEST: u64 = 64 << 20;
    let mut file = std::fs::File::open(dir.join("features/style.safetensors")).ok()?;
    let mut size = [0; 8];
    file.read_exact(&mut size).ok()?;
    let mut head = Vec::new();
    file.take(u64::from_le_bytes(size).min(LONGEST)).read_to_end(&mut head).ok()?;
    let head: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&head).ok()?;
    let length = head.values().find_map(|entry| entry.get("shape")?.get(0)?.as_u64())?;
    usize::try_from(length).ok()
}
