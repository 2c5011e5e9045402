//! The tables of the page: results, facts, remarks.

use serde::Serialize;

use crate::axes::{self, Axis};
use crate::metrics::stats::Interval;
use crate::metrics::{About, Show};
use crate::report::figure::shorten;
use crate::report::number::{finite, short};
use crate::report::page::{Fact, css_color, date};
use crate::report::style::{StyleRun, plots};
use crate::run::shown;
use crate::run::style::{ItemRow, ResultRow};

/// Longer lists are cut; the CSV has them whole.
const MOST_REMARKS: usize = 200;
/// The value of an axis may be so wide, in letters of this size (pixels).
const LONGEST_TEXT: f64 = 260.0;
const LETTERS: f64 = 14.0;

#[derive(Debug, Serialize)]
pub struct ResultColumn {
    name: &'static str,
    /// Said when the pointer rests on it.
    help: &'static str,
    numeric: bool,
}

/// A cell: what is shown, and what it is sorted by (empty: last, whichever way).
#[derive(Debug, Default, Serialize)]
pub struct ResultCell {
    text: String,
    small: String,
    key: String,
    numeric: bool,
    best: bool,
    /// The whole text, where only its beginning is shown.
    title: String,
    /// The strategy's colour, in its name's cell.
    color: String,
}

/// A picture that failed or that the reader must know of.
#[derive(Debug, Serialize)]
pub struct Remark {
    id: String,
    strategy: String,
    text: String,
}

/// Whether the strategies differ in this axis.
fn varies(run: &StyleRun, axis: &Axis) -> bool {
    run.results.windows(2).any(|pair| pair[0].axes.get(axis) != pair[1].axes.get(axis))
}

/// What a strategy has on an axis, in words.
fn shown_value(row: &ResultRow, axis: &Axis) -> String {
    (axis.show)(row.axes.get(axis))
}

/// The results table, best ArtFID first. Axes in which the strategies differ get a column.
pub fn results(run: &StyleRun) -> (Vec<ResultColumn>, Vec<Vec<ResultCell>>) {
    let column = |name, help, numeric| ResultColumn { name, help, numeric };
    let axes: Vec<&Axis> = axes::columns().into_iter().filter(|axis| varies(run, axis)).collect();
    let metrics = shown(&run.results, Show::Table);
    let failed = run.results.iter().any(|row| row.failed > 0);
    let mut columns = vec![column("Strategy", "", false)];
    columns.extend(axes.iter().map(|axis| column(axis.heading, "", false)));
    columns.push(column("n", "pictures that were made and measured", true));
    columns.extend(metrics.iter().map(|about| column(about.label, about.help, true)));
    columns.push(column("s / picture", "seconds for one picture", true));
    columns.extend(failed.then(|| column("Failed", "pictures that could not be made", true)));
    let best = |about: &About| {
        let values = run.results.iter().filter_map(|row| row.values.value(about.name));
        values.reduce(|a, b| about.better(a, b)).filter(|_| run.results.len() > 1)
    };
    let best: Vec<Option<f64>> = metrics.iter().map(|about| best(about)).collect();
    let colors = plots::strategy_colors(run);
    let row = |at: usize| {
        let row = &run.results[at];
        let (color, small) = (css_color(colors[at]), row.style_text().to_string());
        let mut cells = vec![ResultCell { color, small, ..text(&row.strategy) }];
        cells.extend(axes.iter().map(|axis| short_text(&shown_value(row, axis))));
        cells.push(whole(row.n));
        for (about, best) in metrics.iter().zip(&best) {
            cells.push(ResultCell { small: interval(row, about), ..value(row.values.value(about.name), *best) });
        }
        cells.push(value(row.seconds_per_image, None));
        cells.extend(failed.then(|| whole(row.failed)));
        cells
    };
    (columns, run.ranking().into_iter().map(row).collect())
}

/// Which way the metrics of the table are better, in words.
pub fn directions(run: &StyleRun) -> String {
    let (higher, lower): (Vec<&About>, Vec<&About>) =
        shown(&run.results, Show::Table).into_iter().partition(|about| about.higher_is_better);
    let names = |abouts: &[&About]| match abouts {
        [most @ .., last] if !most.is_empty() => {
            let most: Vec<&str> = most.iter().map(|about| about.label).collect();
            format!("{} and {}", most.join(", "), last.label)
        }
        _ => abouts.iter().map(|about| about.label).collect(),
    };
    match (lower.as_slice(), higher.as_slice()) {
        (lower, []) => format!("Lower is better for {}", names(lower)),
        ([], higher) => format!("Higher is better for {}", names(higher)),
        (lower, higher) => format!("Lower is better for {}; higher for {}", names(lower), names(higher)),
    }
}

fn text(text: &str) -> ResultCell {
    ResultCell { text: text.to_string(), key: text.to_string(), ..ResultCell::default() }
}

/// A text that would fill a column of many rows is cut; it is whole where the pointer rests on it, and for screen readers.
fn short_text(whole: &str) -> ResultCell {
    let shown = shorten(whole, LETTERS, LONGEST_TEXT);
    let title = if shown == whole { String::new() } else { whole.to_string() };
    ResultCell { text: shown, title, ..text(whole) }
}

fn whole(value: usize) -> ResultCell {
    ResultCell { text: value.to_string(), key: value.to_string(), numeric: true, ..ResultCell::default() }
}

fn value(value: Option<f64>, best: Option<f64>) -> ResultCell {
    let value = finite(value);
    let key = value.map(|v| v.to_string()).unwrap_or_default();
    ResultCell {
        text: short(value),
        key,
        numeric: true,
        best: value.is_some() && value == best,
        ..ResultCell::default()
    }
}

fn interval(row: &ResultRow, about: &About) -> String {
    let bounds = row.values.interval(about.name);
    bounds.map_or(String::new(), |Interval { low, high }| format!("{} to {}", short(Some(low)), short(Some(high))))
}

/// What the run was made with: from config.toml, from the axes that all strategies share, and the
/// plain values of manifest.json.
pub fn facts(run: &StyleRun) -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    let mut add = |name: &str, value: String| {
        let known = facts.iter().any(|fact| fact.name == name);
        if !value.is_empty() && !known {
            facts.push(Fact { name: name.to_string(), value });
        }
    };
    add("Profile", run.folder.setting("profile").to_string());
    for axis in axes::columns().into_iter().filter(|axis| !varies(run, axis)) {
        // What no strategy has needs no line.
        let shared = run.results.first().map(|row| shown_value(row, axis)).filter(|value| value != axes::NONE);
        add(axis.heading, shared.unwrap_or_default());
    }
    add("Strategies", run.results.len().to_string());
    let photos: std::collections::BTreeSet<&str> = run.items.iter().map(|item| item.id.as_str()).collect();
    add("Photos", photos.len().to_string());
    for (key, value) in run.folder.manifest.as_object().into_iter().flatten() {
        let plain = match value {
            serde_json::Value::Number(time) if key == "started" => time.as_u64().map(date).unwrap_or_default(),
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(flag) => flag.to_string(),
            _ => continue, // lists and objects are shown whole at the end of the page
        };
        if !["name", "question", "profile", "command", "finished"].contains(&key.as_str()) {
            add(&title(key), plain);
        }
    }
    facts
}

/// What people call a key of the manifest: `started_at` → `Started at`.
fn title(key: &str) -> String {
    match key {
        "dtype" => return "Number type".to_string(),
        // A name that is written small.
        "libtorch" => return key.to_string(),
        _ => {}
    }
    let words = key.replace('_', " ");
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The first remarks, and how many more there are.
pub fn remarks<'a>(
    items: impl Iterator<Item = &'a ItemRow>,
    said: impl Fn(&ItemRow) -> &String,
) -> (Vec<Remark>, usize) {
    let mut remarks: Vec<Remark> = items
        .map(|item| Remark { id: item.id.clone(), strategy: item.strategy.clone(), text: said(item).clone() })
        .collect();
    let more = remarks.len().saturating_sub(MOST_REMARKS);
    remarks.truncate(MOST_REMARKS);
    (remarks, more)
}
