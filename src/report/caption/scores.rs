//! The scores as grouped bars with their intervals: a panel a data set, a group a metric, a bar a model.

use super::CaptionRun;
use crate::metrics::stats::Interval;
use crate::metrics::{About, Show};
use crate::report::figure::{Align, Figure, GRID, INK, MUTED, shorten, text_width};
use crate::report::number::{finite, short};
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, Sheet, color, nothing, titled, told};
use crate::run::shown;

const PANEL: f64 = 210.0;
/// Left end of the panels; their right end is the margin.
const LEFT: f64 = 64.0;
const NARROW_LEFT: f64 = 48.0;

pub fn figure(run: &CaptionRun, sheet: Sheet) -> Figure {
    let title = "Scores by data set";
    let metrics = shown(&run.results, Show::Headline);
    let each = || metrics.iter().map(|about| about.name);
    let highs = run.results.iter().flat_map(|row| each().map(|name| row.values.get(name)));
    let published = run.published.iter().flat_map(|line| each().map(|name| line.value(name)));
    let highest =
        highs.flat_map(|value| [value.value, value.high]).chain(published).filter_map(finite).fold(0.0, f64::max);
    if highest == 0.0 && run.results.iter().all(|row| each().all(|name| row.values.value(name).is_none())) {
        return nothing(sheet, title, "No caption was scored: there are no references.");
    }
    let models = run.models();
    let datasets = run.datasets();
    let mut reading = "Higher is better. The thin line is the 95 % bootstrap interval".to_string();
    reading += if run.published.is_empty() { "." } else { "; the short thick line is the published value." };
    let (mut figure, drop) = titled(sheet, title, &reading);
    let legend = legend(&mut figure, &models, 66.0 + drop);
    let left = if sheet.is_narrow() { NARROW_LEFT } else { LEFT };
    for (at, dataset) in datasets.iter().enumerate() {
        let top = legend + 34.0 + at as f64 * (PANEL + 74.0);
        let y = Axis { values: (0.0, highest.max(0.01) * 1.05), pixels: (top + PANEL, top) };
        panel(&mut figure, run, (dataset, &metrics), &models, (left, &y));
        figure.height = top + PANEL + 40.0;
    }
    let values = run.results.iter().map(|row| {
        let score = |about: &&About| format!("{} {}", about.label, short(row.values.value(about.name)));
        let scores: Vec<String> = metrics.iter().map(score).collect();
        format!("{} on {}: {}", row.model, row.dataset, scores.join(", "))
    });
    figure.alt = format!("Bar chart of the scores: {}.", values.collect::<Vec<_>>().join("; "));
    figure
}

/// The models with their colours, in as many lines as they need. Returns the lower end.
pub(super) fn legend(figure: &mut Figure, models: &[String], top: f64) -> f64 {
    let (mut x, mut y) = (MARGIN, top);
    for (at, model) in models.iter().enumerate() {
        let right = figure.width - MARGIN;
        let name = shorten(model, NAME, right - MARGIN - 40.0);
        let width = text_width(&name, NAME, false) + 40.0;
        if x + width > right && x > MARGIN {
            (x, y) = (MARGIN, y + 22.0);
        }
        figure.rect((x, y - 6.0), (x + 12.0, y + 6.0), color(at), 0.9);
        figure.text((x + 18.0, y), name, NAME, INK, Align::Left);
        x += width;
    }
    y + 8.0
}

fn panel(
    figure: &mut Figure,
    run: &CaptionRun,
    (dataset, metrics): (&str, &[&About]),
    models: &[String],
    (left, y): (f64, &Axis),
) {
    let (bottom, top) = y.pixels;
    let right = figure.width - MARGIN;
    let n = models.iter().filter_map(|model| Some(run.result(dataset, model)?.n)).max().unwrap_or(0);
    let name = shorten(&format!("{dataset} (n = {n})"), NAME, right - MARGIN);
    figure.bold((MARGIN, top - 14.0), name, NAME, INK, Align::Left);
    let (ticks, decimals) = y.ticks();
    for value in ticks {
        figure.line([(left, y.at(value)), (right, y.at(value))], GRID, 1.0);
        figure.text((left - 8.0, y.at(value)), format!("{value:.decimals$}"), SMALL, MUTED, Align::Right);
    }
    let group = (right - left) / metrics.len() as f64;
    let bar = (group * 0.8 / models.len() as f64).min(44.0);
    for (at, about) in metrics.iter().enumerate() {
        let middle = left + group * (at as f64 + 0.5);
        figure.text(
            (middle, bottom + 15.0),
            shorten(about.label, SMALL + 1.0, group - 4.0),
            SMALL + 1.0,
            INK,
            Align::Middle,
        );
        for (place, model) in models.iter().enumerate() {
            let Some(row) = run.result(dataset, model) else { continue };
            let center = middle + (place as f64 - (models.len() as f64 - 1.0) / 2.0) * bar;
            let Some(score) = row.values.value(about.name) else { continue };
            figure.rect((center - bar * 0.42, y.at(score)), (center + bar * 0.42, bottom), color(place), 0.85);
            if let Some(Interval { low, high }) = row.values.interval(about.name) {
                figure.line([(center, y.at(low)), (center, y.at(high))], INK, 1.5);
                for end in [low, high] {
                    figure.line([(center - 4.0, y.at(end)), (center + 4.0, y.at(end))], INK, 1.5);
                }
            }
            if let Some(value) = run.published_of(row).and_then(|line| line.value(about.name)) {
                let at = y.at(value);
                figure.line([(center - bar * 0.48, at), (center + bar * 0.48, at)], INK, 3.0);
            }
            let mut text =
                told(&format!("{model} on {dataset}"), about.label, Some(score), row.values.interval(about.name));
            if let Some(value) = run.published_of(row).and_then(|line| line.value(about.name)) {
                text += &format!(", published {}", short(Some(value)));
            }
            figure.tip((center - bar * 0.5, top), (center + bar * 0.5, bottom), text);
        }
    }
    figure.line([(left, bottom), (right, bottom)], MUTED, 1.0);
}
