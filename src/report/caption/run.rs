//! The folder of a caption run, read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::error::usage;
use crate::report::folder::Folder;
use crate::run::caption::{CaptionItem, CaptionResult, Comparison};
use crate::run::compared::correct;
use crate::run::published::Published;
use crate::run::{csv, guard};

const ITEM_COLUMNS: &[&str] = &["id", "dataset", "model", "caption", "status", "image"];
const RESULT_COLUMNS: &[&str] = &["model", "dataset", "n", "bleu", "rouge1", "rouge2", "meteor", "images_per_second"];
const COMPARISON_COLUMNS: &[&str] = &["dataset", "metric", "first", "second", "difference", "p_value"];

/// A caption run. Only items.csv and results.csv must be there.
#[derive(Debug, Clone, Default)]
pub struct CaptionRun {
    pub folder: Folder,
    pub items: Vec<CaptionItem>,
    pub results: Vec<CaptionResult>,
    pub comparisons: Vec<Comparison>,
    pub published: Vec<Published>,
    /// By data set and id.
    pub references: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl CaptionRun {
    /// Reads a run folder; a damaged file is an error that names the file, the line and the column.
    pub fn read(dir: &Path) -> Result<Self> {
        guard::check(dir)?;
        let shown = dir.display();
        let file = |name: &str| dir.join(name);
        if !file("results.csv").exists() && file("items.csv").exists() {
            bail!("{shown} has no results.csv: this run did not finish; start it again to continue it");
        }
        if !file("results.csv").exists() || !file("items.csv").exists() {
            return Err(usage(format!("{shown} is no finished run folder: items.csv and results.csv are needed")));
        }
        let mut run = Self {
            items: csv::read(&file("items.csv"), ITEM_COLUMNS)?,
            results: csv::read(&file("results.csv"), RESULT_COLUMNS)?,
            ..Self::default()
        };
        if run.results.is_empty() {
            bail!("{shown}: results.csv has no rows: there is nothing to report");
        }
        if file("comparisons.csv").exists() {
            run.comparisons = csv::read(&file("comparisons.csv"), COMPARISON_COLUMNS)?;
            correct(&mut run.comparisons);
        }
        run.folder = Folder::read(dir)?;
        run.published = run.folder.published()?;
        for name in run.datasets() {
            // A table may be edited: only what lies in the folder is read.
            if let Ok(path) = guard::inside(dir, &format!("references/{name}.json"))
                && path.exists()
            {
                let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let of = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
                run.references.insert(name, of);
            }
        }
        Ok(run)
    }

    /// The data sets, in the order of results.csv.
    pub fn datasets(&self) -> Vec<String> {
        distinct(self.results.iter().map(|row| &row.dataset))
    }

    /// The models, in the order of results.csv: their positions give their colours.
    pub fn models(&self) -> Vec<String> {
        distinct(self.results.iter().map(|row| &row.model))
    }

    pub fn result(&self, dataset: &str, model: &str) -> Option<&CaptionResult> {
        self.results.iter().find(|row| row.dataset == dataset && row.model == model)
    }

    /// What was published of this model, whatever it was asked here.
    pub fn published_of(&self, row: &CaptionResult) -> Option<&Published> {
        self.published.iter().find(|line| line.dataset == row.dataset && Published::is_of(&line.model, &row.model))
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for name in names {
        if !list.contains(name) {
            list.push(name.clone());
        }
    }
    list
}
