//! Finished runs beside each other: which settings differ, what the metrics came to, and, where both runs have the same
//! pictures, how far they differ picture by picture.
//!
//! Everything is read from the run folders; nothing in them is written.

mod caption;
mod page;
mod settings;
mod style;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::{caption::CaptionRun, save, style::StyleRun};
use crate::error::usage;
use crate::metrics::stats::{Estimate, holm};
use crate::run::csv::{self, Row};
use crate::run::layout::kind_of;

/// The features of a run's pictures (by `STRATEGY/ID`) and of its style pictures.
#[derive(Debug, Default)]
pub struct Features {
    pub pictures: BTreeMap<String, Vec<f32>>,
    pub style: Vec<Vec<f32>>,
}

/// Reads the features of a run folder; none where it has none.
pub type ReadFeatures<'a> = &'a dyn Fn(&Path) -> Result<Option<Features>>;

/// A row of `compare.csv`: a setting or a metric of two runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// `setting` or `metric`.
    pub what: String,
    pub first_run: String,
    pub second_run: String,
    /// The key of a setting; a strategy, or model and data set.
    pub name: String,
    pub metric: String,
    /// What it is in the two runs; empty: not set, or not measured.
    pub first: String,
    pub second: String,
    /// Pictures that both runs have; empty, as all that follows, where there are none.
    pub n: Option<usize>,
    /// The first's score less the second's on these pictures, with its 95 % interval.
    pub difference: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Two-sided, by paired bootstrap, and after Holm's correction over the pairs of the metric.
    pub p_value: Option<f64>,
    pub p_holm: Option<f64>,
}

impl Row for Line {}

/// Two runs: what a kind of run finds out of them.
#[derive(Debug, Default)]
struct Found {
    lines: Vec<Line>,
    /// What the reader must know.
    remarks: Vec<String>,
}

/// Runs of one kind, read.
enum Runs {
    Style(Vec<StyleRun>),
    Caption(Vec<CaptionRun>),
}

/// Writes `compare.html` and `compare.csv` into a folder. Returns the files.
///
/// Fails when there are fewer than two runs, one is there twice, or they are of different kinds.
pub fn write(dirs: &[PathBuf], out: &Path, features: ReadFeatures) -> Result<Vec<PathBuf>> {
    let runs = read(dirs)?;
    let folders: Vec<&Folder> = match &runs {
        Runs::Style(runs) => runs.iter().map(|run| &run.folder).collect(),
        Runs::Caption(runs) => runs.iter().map(|run| &run.folder).collect(),
    };
    let labels = labels(&folders);
    let mut found = Found::default();
    for (first, second) in pairs(dirs.len()) {
        let of_pair = match &runs {
            Runs::Style(runs) => style::compare(&runs[first], &runs[second], features)?,
            Runs::Caption(runs) => caption::compare(&runs[first], &runs[second])?,
        };
        let settings = settings::differences(folders[first], folders[second]);
        let named = |line: Line| Line { first_run: labels[first].clone(), second_run: labels[second].clone(), ..line };
        found.lines.extend(settings.into_iter().chain(of_pair.lines).map(named));
        let remark = |remark| format!("{} and {}: {remark}", labels[first], labels[second]);
        found.remarks.extend(of_pair.remarks.into_iter().map(remark));
    }
    let (page, table) = (out.join("compare.html"), out.join("compare.csv"));
    let html = page::html(&folders, &labels, &found)?;
    std::fs::create_dir_all(out)
        .map_err(|error| usage(format!("cannot make the folder {}: {error}", out.display())))?;
    csv::write(&table, &found.lines, &[])?;
    save(&page, html.as_bytes())?;
    Ok(vec![page, table])
}

fn read(dirs: &[PathBuf]) -> Result<Runs> {
    for (at, dir) in dirs.iter().enumerate() {
        let same =
            |other: &&PathBuf| other.canonicalize().ok().zip(dir.canonicalize().ok()).is_some_and(|(a, b)| a == b);
        if dirs[..at].iter().any(|other| same(&other)) {
            return Err(usage(format!("{} is there twice: name different runs", dir.display())));
        }
    }
    let [first, others @ ..] = dirs else { return Err(usage("no runs to compare: name two or more run folders")) };
    if others.is_empty() {
        return Err(usage(format!(
            "{} alone has nothing to be compared with: name two or more run folders",
            first.display()
        )));
    }
    let is_caption = |dir: &Path| kind_of(dir) == "caption";
    let runs = if is_caption(first) {
        Runs::Caption(
            dirs.iter().take_while(|dir| is_caption(dir)).map(|dir| CaptionRun::read(dir)).collect::<Result<_>>()?,
        )
    } else {
        Runs::Style(
            dirs.iter().take_while(|dir| !is_caption(dir)).map(|dir| StyleRun::read(dir)).collect::<Result<_>>()?,
        )
    };
    let (read, kinds) = match &runs {
        Runs::Style(runs) => (runs.len(), ["style transfer", "captions"]),
        Runs::Caption(runs) => (runs.len(), ["captions", "style transfer"]),
    };
    match dirs.get(read) {
        Some(other) => Err(usage(format!(
            "{} is a run of {}, {} of {}: only runs of one kind can be compared",
            first.display(),
            kinds[0],
            other.display(),
            kinds[1]
        ))),
        None => Ok(runs),
    }
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |first| (first + 1..count).map(move |second| (first, second)))
}

/// What the runs are called: their folders' names, or the way there where two are called alike.
fn labels(folders: &[&Folder]) -> Vec<String> {
    let alike = |name: &str| folders.iter().filter(|folder| folder.name == name).count() > 1;
    folders.iter().map(|folder| if alike(&folder.name) { folder.shown_dir() } else { folder.name.clone() }).collect()
}

impl Line {
    /// A metric of both runs, not compared picture by picture.
    fn of_metric(name: &str, metric: &str, values: [Option<f64>; 2]) -> Self {
        let [first, second] = values.map(|value| value.map(|value| value.to_string()).unwrap_or_default());
        let (name, metric) = (name.to_string(), metric.to_string());
        Self { what: "metric".to_string(), name, metric, first, second, ..Self::default() }
    }

    fn put(&mut self, n: usize, Estimate { value, interval, p_value }: Estimate) {
        (self.n, self.difference, self.p_value) = (Some(n), Some(value), Some(p_value));
        (self.low, self.high) = (Some(interval.low), Some(interval.high));
    }
}

/// Corrects the probabilities of each metric over its lines.
fn correct(lines: &mut [Line]) {
    let metrics: std::collections::BTreeSet<String> = lines.iter().map(|line| line.metric.clone()).collect();
    for metric in metrics {
        let mut tests: Vec<&mut Line> =
            lines.iter_mut().filter(|line| line.metric == metric && line.p_value.is_some()).collect();
        let p_values: Vec<f64> = tests.iter().filter_map(|line| line.p_value).collect();
        tests.iter_mut().zip(holm(&p_values)).for_each(|(line, p_holm)| line.p_holm = Some(p_holm));
    }
}
