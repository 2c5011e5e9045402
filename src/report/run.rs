//! A run folder, read: rows, and what is known of how they were made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::gallery::score_where_missing;
use super::number::finite;
use super::rows::{ItemRow, ResultRow};
use crate::error::usage;

const ITEM_COLUMNS: &[&str] =
    &["id", "strategy", "seed", "caption", "prompt", "dropped", "seconds", "lpips", "status", "error", "image"];
const RESULT_COLUMNS: &[&str] =
    &["strategy", "style_text", "n", "artfid", "fid", "lpips", "artfid_low", "artfid_high", "seconds_per_image"];

/// A run folder of a style experiment. Only the two CSV files must be there.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub dir: PathBuf,
    /// The folder's own name.
    pub name: String,
    pub items: Vec<ItemRow>,
    /// A row per strategy, in the order of the file; a strategy of which only items are known comes after them.
    pub results: Vec<ResultRow>,
    /// How many of `results` are in the file.
    pub listed: usize,
    /// The resolved configuration as it was written, and parsed.
    pub config_text: Option<String>,
    pub config: toml::Table,
    pub manifest: serde_json::Value,
}

impl Run {
    /// Reads a run folder. A folder that is none is wrong usage; a damaged file is an error that
    /// names the file, the line and the column.
    pub fn read(dir: &Path) -> Result<Self> {
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
            dir: dir.to_path_buf(),
            name: folder_name(dir),
            items: super::csv::read(&items, ITEM_COLUMNS)?,
            results: super::csv::read(&results, RESULT_COLUMNS)?,
            ..Self::default()
        };
        if run.results.is_empty() && run.items.is_empty() {
            bail!("{shown}: items.csv and results.csv have no rows: there is nothing to report");
        }
        score_where_missing(&mut run.items);
        run.check_strategies(&results)?;
        run.read_origin()?;
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

    /// config.toml and manifest.json tell of the run; they may be missing, not damaged.
    pub(super) fn read_origin(&mut self) -> Result<()> {
        let config = self.dir.join("config.toml");
        if config.exists() {
            let text = std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
            self.config = text.parse().with_context(|| format!("{} is not TOML", config.display()))?;
            self.config_text = Some(text);
        }
        let manifest = self.dir.join("manifest.json");
        if manifest.exists() {
            let text = std::fs::read(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
            self.manifest =
                serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", manifest.display()))?;
        }
        Ok(())
    }

    /// Positions in `results`, best ArtFID first, the unmeasured last.
    pub fn ranking(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.results.len()).collect();
        order.sort_by(|a, b| {
            let value = |at: &usize| finite(self.results[*at].artfid).unwrap_or(f64::INFINITY);
            value(a).total_cmp(&value(b)).then(a.cmp(b))
        });
        order
    }

    /// The folder as one would type it: relative where it lies below the working folder. The same
    /// however it was named this time.
    pub fn shown_dir(&self) -> String {
        let whole = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
        match whole.strip_prefix(here) {
            Ok(below) if !below.as_os_str().is_empty() => below.display().to_string(),
            _ => whole.display().to_string(),
        }
    }

    /// The items of one strategy, in the order of the file.
    pub fn items_of(&self, strategy: &str) -> impl Iterator<Item = &ItemRow> {
        self.items.iter().filter(move |item| item.strategy == strategy)
    }
}

/// `runs/x` and `.` both have a name.
pub(super) fn folder_name(dir: &Path) -> String {
    let named = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    named(dir).or_else(|| named(&dir.canonicalize().ok()?)).unwrap_or_else(|| "run".to_string())
}
