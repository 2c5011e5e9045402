//! The tables of the page, and what the numbers say in words.

use serde::Serialize;

use super::CaptionRun;
use super::rows::{CaptionResult, Comparison};
use crate::report::number::{finite, short};
use crate::report::page::tables::{Fact, date};

/// Below this many pictures single captions decide more than the models do.
const ENOUGH: usize = 100;
/// Which metrics the comparison shows; comparisons.csv has all.
const COMPARED: [&str; 5] = ["bleu", "rouge1", "rouge2", "meteor", "cider"];

/// A cell: what is shown, what it is sorted by, and a small line under it.
#[derive(Debug, Default, Serialize)]
pub struct Cell {
    pub text: String,
    pub small: String,
    pub key: String,
    pub numeric: bool,
    pub best: bool,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub model: String,
    pub color: String,
    pub prompt: String,
    pub cells: Vec<Cell>,
}

/// Header and rows of one data set.
#[derive(Debug, Serialize)]
pub struct Table {
    pub dataset: String,
    pub columns: Vec<(&'static str, &'static str)>,
    pub rows: Vec<Row>,
}

type Column = (&'static str, &'static str, fn(&CaptionResult) -> (Option<f64>, Option<f64>, Option<f64>), bool);

const COLUMNS: [Column; 8] = [
    ("BLEU", "BLEU-4 over all captions; below it the 95 % interval", |r| (r.bleu, r.bleu_low, r.bleu_high), true),
    ("ROUGE-1", "F-measure of single words, best reference", |r| (r.rouge1, r.rouge1_low, r.rouge1_high), true),
    ("ROUGE-2", "F-measure of word pairs, best reference", |r| (r.rouge2, r.rouge2_low, r.rouge2_high), true),
    ("ROUGE-L", "F-measure of the longest common subsequence", |r| (r.rouge_l, None, None), true),
    ("METEOR", "words, stems and synonyms, best reference", |r| (r.meteor, r.meteor_low, r.meteor_high), true),
    ("CIDEr", "CIDEr-D, 0 to 10, as the COCO evaluation computes it", |r| (r.cider, r.cider_low, r.cider_high), true),
    ("words", "mean words of a caption; below it of a reference", |r| (r.words, None, None), false),
    ("images / s", "pictures described in a second", |r| (r.images_per_second, None, None), false),
];

/// A table for each data set, models in the order of results.csv.
pub fn results(run: &CaptionRun, color: impl Fn(&str) -> String) -> Vec<Table> {
    let table = |dataset: String| {
        let own: Vec<&CaptionResult> = run.results.iter().filter(|row| row.dataset == dataset).collect();
        let mut columns = vec![("n", "pictures that were described")];
        columns.extend(COLUMNS.iter().map(|(name, help, ..)| (*name, *help)));
        let failed = own.iter().any(|row| row.failed > 0);
        columns.extend(failed.then_some(("failed", "pictures that could not be described")));
        let rows = own.iter().map(|row| {
            let mut cells = vec![whole(row.n)];
            cells.extend(COLUMNS.iter().map(|column| value(row, column, &own)));
            cells.extend(failed.then(|| whole(row.failed)));
            Row { model: row.model.clone(), color: color(&row.model), prompt: row.prompt.clone(), cells }
        });
        Table { rows: rows.collect(), columns, dataset }
    };
    run.datasets().into_iter().map(table).collect()
}

fn whole(number: usize) -> Cell {
    Cell { text: number.to_string(), key: number.to_string(), numeric: true, ..Cell::default() }
}

fn value(row: &CaptionResult, (name, _, of, marked): &Column, all: &[&CaptionResult]) -> Cell {
    let (value, low, high) = of(row);
    let value = finite(value);
    let highest = all.iter().filter_map(|row| finite(of(row).0)).reduce(f64::max).filter(|_| *marked && all.len() > 1);
    let mut small = match (finite(low), finite(high)) {
        (Some(low), Some(high)) => format!("{} to {}", short(Some(low)), short(Some(high))),
        _ => String::new(),
    };
    if *name == "words" && row.reference_words.is_some() {
        small = format!("people {}", short(row.reference_words));
    }
    let key = value.map(|value| value.to_string()).unwrap_or_default();
    Cell { text: short(value), small, key, numeric: true, best: value.is_some() && value == highest }
}

/// The published table beside the measured one: dataset, model, then measured and published of each metric.
pub fn published(run: &CaptionRun) -> Vec<(String, String, Vec<Cell>)> {
    let line = |row: &CaptionResult| {
        let line = run.published_of(row)?;
        let pairs =
            [(row.bleu, line.bleu), (row.rouge1, line.rouge1), (row.rouge2, line.rouge2), (row.meteor, line.meteor)];
        let cell = |(measured, published): (Option<f64>, f64)| {
            let difference = finite(measured).map(|measured| measured - published);
            let sign = if difference.is_some_and(|difference| difference >= 0.0) { "+" } else { "" };
            Cell {
                text: format!("{} / {}", four(measured), four(Some(published))),
                small: difference.map_or(String::new(), |difference| format!("{sign}{}", four(Some(difference)))),
                numeric: true,
                ..Cell::default()
            }
        };
        Some((row.dataset.clone(), row.model.clone(), pairs.map(cell).into()))
    };
    run.results.iter().filter_map(line).collect()
}

fn four(value: Option<f64>) -> String {
    finite(value).map_or("–".to_string(), |value| format!("{value:.4}").replace('-', "−"))
}

/// A line of the comparison of two models.
#[derive(Debug, Serialize)]
pub struct Compared {
    dataset: String,
    pair: String,
    metric: String,
    difference: String,
    interval: String,
    p_value: String,
    certain: bool,
}

pub fn comparisons(run: &CaptionRun) -> Vec<Compared> {
    let line = |row: &Comparison| Compared {
        dataset: row.dataset.clone(),
        pair: format!("{} − {}", row.first, row.second),
        metric: row.metric.clone(),
        difference: four(Some(row.difference)),
        interval: format!("{} to {}", four(Some(row.low)), four(Some(row.high))),
        p_value: probability(row.p_value),
        certain: row.p_value < 0.05,
    };
    run.comparisons.iter().filter(|row| COMPARED.contains(&row.metric.as_str())).map(line).collect()
}

/// A thousand resamples tell no smaller probability.
fn probability(value: f64) -> String {
    if value < 0.001 { "< 0.001".to_string() } else { format!("{value:.3}") }
}

/// What the numbers say, a sentence for each data set.
pub fn sentences(run: &CaptionRun) -> Vec<String> {
    run.datasets().iter().map(|dataset| sentence(run, dataset)).collect()
}

fn sentence(run: &CaptionRun, dataset: &str) -> String {
    let mut scored: Vec<&CaptionResult> =
        run.results.iter().filter(|row| row.dataset == dataset && finite(row.meteor).is_some()).collect();
    scored.sort_by(|a, b| b.meteor.unwrap_or(0.0).total_cmp(&a.meteor.unwrap_or(0.0)));
    let Some((best, others)) = scored.split_first() else {
        return format!("{dataset} has no references: its captions were not scored.");
    };
    let value = short(best.meteor);
    let Some(second) = others.first() else {
        return format!("On {dataset} {} reaches a METEOR of {value}.", best.model);
    };
    let between = run.comparisons.iter().find(|row| {
        let pair = [row.first.as_str(), row.second.as_str()];
        row.dataset == dataset
            && row.metric == "meteor"
            && pair.contains(&best.model.as_str())
            && pair.contains(&second.model.as_str())
    });
    let doubt = match between {
        Some(row) if row.p_value < 0.05 => format!("paired bootstrap p {}", equal(row.p_value)),
        Some(row) => format!("which may be chance: paired bootstrap p {}", equal(row.p_value)),
        None => "not compared picture by picture".to_string(),
    };
    let (of, next) = (&second.model, short(second.meteor));
    format!("On {dataset} {} has the highest METEOR, {value}, before {of} with {next} ({doubt}).", best.model)
}

fn equal(value: f64) -> String {
    let shown = probability(value);
    if shown.starts_with('<') { shown } else { format!("= {shown}") }
}

/// What the reader must know beside the numbers.
pub fn warnings(run: &CaptionRun) -> Vec<String> {
    let mut warnings = Vec::new();
    if run.origin.manifest.get("finished").and_then(|finished| finished.as_bool()) == Some(false) {
        warnings.push("This run did not finish: the values are of the captions made so far.".to_string());
    }
    let failed = run.items.iter().filter(|item| !item.is_done()).count();
    if failed > 0 {
        warnings.push(format!("{failed} of {} captions failed; they are listed below.", run.items.len()));
    }
    for data_set in run.origin.manifest.get("data_sets").and_then(|list| list.as_array()).into_iter().flatten() {
        let count = |key: &str| data_set.get(key).and_then(|list| list.as_array()).map_or(0, Vec::len);
        let name = data_set.get("name").and_then(|name| name.as_str()).unwrap_or_default();
        if count("missing") > 0 {
            warnings.push(format!("{} pictures of {name} are missing (see manifest.json).", count("missing")));
        }
        if count("without_references") > 0 {
            let left = count("without_references");
            warnings.push(format!("{left} pictures of {name} have no reference caption and are left out."));
        }
    }
    let least = run.results.iter().map(|row| row.n).min().unwrap_or(0);
    if least < ENOUGH {
        warnings.push(format!("The sample is small ({least} pictures): take the order of the models as a hint."));
    }
    warnings
}

/// What the run was made with.
pub fn facts(run: &CaptionRun) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push(Fact { name: name.to_string(), value });
        }
    };
    let config = |key: &str| run.origin.config.get(key);
    add("Profile", config("profile").and_then(|v| v.as_str()).unwrap_or_default().to_string());
    add("Models", run.models().len().to_string());
    add("Captions", run.items.len().to_string());
    add("Beams", config("num_beams").map(|v| v.to_string()).unwrap_or_default());
    add("Longest caption", config("max_new_tokens").map(|v| format!("{v} tokens")).unwrap_or_default());
    let manifest = |key: &str| run.origin.manifest.get(key);
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
