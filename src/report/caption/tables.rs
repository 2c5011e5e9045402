//! The tables of the page.

use serde::Serialize;

use super::CaptionRun;
use crate::metrics::stats::Interval;
use crate::metrics::{About, Show};
use crate::report::number::{equal, finite, short};
use crate::report::page::{Fact, date};
use crate::run::caption::{CaptionResult, Comparison};
use crate::run::compared::CERTAIN;
use crate::run::shown;

/// The metrics that the comparison of models shows; comparisons.csv has all.
pub fn compared(run: &CaptionRun) -> Vec<&'static About> {
    shown(&run.results, Show::Compared)
}

/// The metrics of published tables.
pub fn published_metrics(run: &CaptionRun) -> Vec<&'static About> {
    shown(&run.results, Show::Headline)
}

/// A cell: what is shown, what it is sorted by, and small lines under it.
#[derive(Debug, Default, Serialize)]
pub struct CaptionCell {
    pub text: String,
    pub small: String,
    pub smaller: String,
    pub key: String,
    pub numeric: bool,
    pub best: bool,
}

#[derive(Debug, Serialize)]
pub struct CaptionRow {
    pub model: String,
    pub color: String,
    pub prompt: String,
    pub cells: Vec<CaptionCell>,
}

/// Header and rows of one data set.
#[derive(Debug, Serialize)]
pub struct CaptionTable {
    pub dataset: String,
    pub columns: Vec<(&'static str, &'static str)>,
    pub rows: Vec<CaptionRow>,
}

/// What a column shows of a row.
#[derive(Debug, Clone, Copy)]
enum CaptionColumn {
    Metric(&'static About),
    Words,
    Speed,
}

impl CaptionColumn {
    fn title(self) -> (&'static str, &'static str) {
        match self {
            Self::Metric(about) => (about.label, about.help),
            Self::Words => ("words", "mean words of a caption; below it of a reference"),
            Self::Speed => ("images / s", "pictures described in a second"),
        }
    }

    fn value(self, row: &CaptionResult) -> Option<f64> {
        match self {
            Self::Metric(about) => row.values.value(about.name),
            Self::Words => finite(row.words),
            Self::Speed => finite(row.images_per_second),
        }
    }

    /// What stands below the value.
    fn small(self, row: &CaptionResult) -> String {
        match self {
            Self::Metric(about) => row.values.interval(about.name).map_or(String::new(), |Interval { low, high }| {
                format!("{} to {}", short(Some(low)), short(Some(high)))
            }),
            Self::Words if row.reference_words.is_some() => format!("people {}", short(row.reference_words)),
            Self::Words | Self::Speed => String::new(),
        }
    }

    /// The best of some values, where one is better than another.
    fn best(self, values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
        let Self::Metric(about) = self else { return None };
        // Where all are equal none is the best.
        let best = values.clone().reduce(|a, b| about.better(a, b))?;
        values.clone().any(|value| value != best).then_some(best)
    }
}

/// A table for each data set, models in the order of results.csv.
pub fn results(run: &CaptionRun, color: impl Fn(&str) -> String) -> Vec<CaptionTable> {
    let metrics = shown(&run.results, Show::Table);
    let table = |dataset: String| {
        let own: Vec<&CaptionResult> = run.results.iter().filter(|row| row.dataset == dataset).collect();
        let shown = metrics
            .iter()
            .map(|about| CaptionColumn::Metric(about))
            .chain([CaptionColumn::Words, CaptionColumn::Speed]);
        let shown: Vec<CaptionColumn> = shown.collect();
        let mut columns = vec![("n", "pictures that were described")];
        columns.extend(shown.iter().map(|column| column.title()));
        let failed = own.iter().any(|row| row.failed > 0);
        columns.extend(failed.then_some(("failed", "pictures that could not be described")));
        let rows = own.iter().map(|row| {
            let mut cells = vec![whole(row.n)];
            cells.extend(shown.iter().map(|column| value(row, *column, &own)));
            cells.extend(failed.then(|| whole(row.failed)));
            CaptionRow { model: row.model.clone(), color: color(&row.model), prompt: row.prompt.clone(), cells }
        });
        CaptionTable { rows: rows.collect(), columns, dataset }
    };
    run.datasets().into_iter().map(table).collect()
}

fn whole(number: usize) -> CaptionCell {
    CaptionCell { text: number.to_string(), key: number.to_string(), numeric: true, ..CaptionCell::default() }
}

fn value(row: &CaptionResult, column: CaptionColumn, all: &[&CaptionResult]) -> CaptionCell {
    let value = column.value(row);
    let best = column.best(all.iter().filter_map(|row| column.value(row)));
    CaptionCell {
        text: short(value),
        small: column.small(row),
        key: value.map(|value| value.to_string()).unwrap_or_default(),
        numeric: true,
        best: value.is_some() && value == best,
        ..CaptionCell::default()
    }
}

/// The published table beside the measured one: dataset, model, then measured and published of each metric.
pub fn published(run: &CaptionRun) -> Vec<(String, String, Vec<CaptionCell>)> {
    let metrics = published_metrics(run);
    let line = |row: &CaptionResult| {
        let line = run.published_of(row)?;
        let cell = |about: &&About| {
            let (measured, published) = (row.values.value(about.name), line.value(about.name));
            let difference = measured.zip(published).map(|(measured, published)| measured - published);
            CaptionCell {
                text: format!("{} / {}", four(measured), four(published)),
                small: difference.map_or(String::new(), signed),
                numeric: true,
                ..CaptionCell::default()
            }
        };
        Some((row.dataset.clone(), row.model.clone(), metrics.iter().map(cell).collect()))
    };
    run.results.iter().filter_map(line).collect()
}

fn four(value: Option<f64>) -> String {
    let shown = finite(value).map_or("–".to_string(), |value| format!("{value:.4}").replace('-', "−"));
    // What rounds to nothing has no sign.
    if shown == "−0.0000" { "0.0000".to_string() } else { shown }
}

fn signed(difference: f64) -> String {
    let shown = four(Some(difference));
    if difference > 0.0 && shown != "0.0000" { format!("+{shown}") } else { shown }
}

/// Two models on a data set: a cell for each metric of [`compared`].
#[derive(Debug, Serialize)]
pub struct Compared {
    dataset: String,
    first: String,
    second: String,
    cells: Vec<CaptionCell>,
}

/// A line for each pair of models and data set, in the order of comparisons.csv.
pub fn comparisons(run: &CaptionRun) -> Vec<Compared> {
    let mut pairs: Vec<[&str; 3]> = Vec::new();
    for row in &run.comparisons {
        let pair = [row.dataset.as_str(), row.first.as_str(), row.second.as_str()];
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    let metrics = compared(run);
    let line = |pair: [&str; 3]| {
        let [dataset, first, second] = pair.map(str::to_string);
        let find = |metric: &str| {
            let rows = run.comparisons.iter().filter(|row| row.metric == metric);
            rows.clone().find(|row| [row.dataset.as_str(), row.first.as_str(), row.second.as_str()] == pair)
        };
        let cells =
            metrics.iter().map(|about| find(about.name).map_or_else(CaptionCell::default, difference)).collect();
        Compared { dataset, first, second, cells }
    };
    pairs.into_iter().map(line).collect()
}

/// Marked where chance does not explain it.
fn difference(row: &Comparison) -> CaptionCell {
    let (low, high) = (four(Some(row.low)), four(Some(row.high)));
    CaptionCell {
        text: signed(row.difference),
        small: format!("{low} to {high}"),
        smaller: format!("p {}", equal(row.corrected())),
        numeric: true,
        best: row.corrected() < CERTAIN,
        ..CaptionCell::default()
    }
}

/// What the run was made with.
pub fn facts(run: &CaptionRun) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push(Fact { name: name.to_string(), value });
        }
    };
    let config = |key: &str| run.folder.config.get(key);
    add("Profile", config("profile").and_then(|v| v.as_str()).unwrap_or_default().to_string());
    add("Models", run.models().len().to_string());
    add("Captions", run.items.len().to_string());
    add("Beams", config("num_beams").map(|v| v.to_string()).unwrap_or_default());
    add("Longest caption", config("max_new_tokens").map(|v| format!("{v} tokens")).unwrap_or_default());
    let manifest = |key: &str| run.folder.manifest.get(key);
    for (key, name) in
        [("device", "Device"), ("dtype", "Number type"), ("libtorch", "libtorch"), ("toolkit", "Toolkit")]
    {
        add(name, manifest(key).and_then(|v| v.as_str()).unwrap_or_default().to_string());
    }
    add("Started", manifest("started").and_then(|v| v.as_u64()).map(date).unwrap_or_default());
    for data_set in manifest("data_sets").and_then(|list| list.as_array()).into_iter().flatten() {
        let text = |key: &str| data_set.get(key).and_then(|v| v.as_str()).unwrap_or_default();
        let number = |key: &str| data_set.get(key).and_then(|v| v.as_u64()).unwrap_or(0);
        let (format, split) = (text("format"), text("split"));
        let value =
            format!("{} pictures, {format}, split {split}, batches of {}", number("pictures"), number("batch_size"));
        add(&format!("Data set {}", text("name")), value);
    }
    facts
}
