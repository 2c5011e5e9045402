//! Score against the length of the caption: whether a model loses by what it says or by how much it says.

use super::scores::legend;
use super::{AGAINST_LENGTH, CaptionRun, DECIDING};
use crate::metrics::label;
use crate::report::figure::{Align, Figure, GRID, INK, MUTED, shorten};
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, Sheet, color, nothing, titled, told};
use crate::run::caption::CaptionItem;

const PANEL: f64 = 190.0;
/// Left and right end of each of the two plots of a data set.
const COLUMNS: [(f64, f64); 2] = [(54.0, 372.0), (430.0, 760.0 - MARGIN)];
/// The same where they stand one below the other.
const COLUMN: (f64, f64) = (46.0, 360.0 - MARGIN);
/// More points than this hide each other; an even part of them is drawn.
const MOST_POINTS: usize = 300;
/// The line joins the means of this many equal parts of a model's captions, ordered by length.
const PARTS: usize = 8;
/// A mean of fewer captions says more of them than of their length.
const LEAST_IN_PART: usize = 6;

pub fn figure(run: &CaptionRun, sheet: Sheet) -> Figure {
    let title = "Score against caption length";
    let scored: Vec<&CaptionItem> = run.items.iter().filter(|item| item.values.value(DECIDING).is_some()).collect();
    if scored.is_empty() {
        return nothing(sheet, title, "No caption was scored: there are no references.");
    }
    let reading = "A dot is a caption. The line joins the means of captions of similar length. \
                   Dashed: mean length of the references.";
    let (mut figure, drop) = titled(sheet, title, reading);
    let models = run.models();
    let legend = legend(&mut figure, &models, 66.0 + drop);
    let below = PANEL + 74.0;
    let height = if sheet.is_narrow() { below + PANEL } else { PANEL };
    let datasets: Vec<String> =
        run.datasets().into_iter().filter(|name| scored.iter().any(|item| item.dataset == *name)).collect();
    for (at, dataset) in datasets.iter().enumerate() {
        let top = legend + 52.0 + at as f64 * (height + 106.0);
        let own: Vec<&CaptionItem> = scored.iter().filter(|item| item.dataset == *dataset).copied().collect();
        figure.bold((MARGIN, top - 32.0), shorten(dataset, NAME, 300.0), NAME, INK, Align::Left);
        let references = run.results.iter().find(|row| row.dataset == *dataset).and_then(|row| row.reference_words);
        for (place, metric) in AGAINST_LENGTH.into_iter().enumerate() {
            let (pixels, top) =
                if sheet.is_narrow() { (COLUMN, top + below * place as f64) } else { (COLUMNS[place], top) };
            panel(&mut figure, &own, &models, metric, (pixels, top), references);
        }
        figure.height = top + height + 50.0;
    }
    figure.alt = alt(run, &models, &datasets);
    figure
}

fn panel(
    figure: &mut Figure,
    items: &[&CaptionItem],
    models: &[String],
    metric: &str,
    ((left, right), top): ((f64, f64), f64),
    references: Option<f64>,
) {
    let bottom = top + PANEL;
    let longest = items.iter().map(|item| item.words as f64).fold(references.unwrap_or(1.0), f64::max);
    let highest = items.iter().filter_map(|item| item.values.value(metric)).fold(0.05, f64::max);
    let x = Axis { values: (0.0, longest * 1.04 + 1.0), pixels: (left, right) };
    let y = Axis { values: (0.0, highest * 1.06), pixels: (bottom, top) };
    x.draw_horizontal(figure, top, bottom, "words");
    let (ticks, decimals) = y.ticks();
    for score in ticks {
        figure.line([(left, y.at(score)), (right, y.at(score))], GRID, 1.0);
        figure.text((left - 8.0, y.at(score)), format!("{score:.decimals$}"), SMALL, MUTED, Align::Right);
    }
    figure.text((left, top - 12.0), format!("{} of each caption", label(metric)), SMALL + 1.0, INK, Align::Left);
    if let Some(words) = references {
        let mut from = top;
        while from < bottom {
            figure.line([(x.at(words), from), (x.at(words), (from + 5.0).min(bottom))], INK, 1.0);
            from += 9.0;
        }
    }
    for (at, model) in models.iter().enumerate() {
        let mut known: Vec<(usize, f64, &str)> = items
            .iter()
            .filter(|item| item.model == *model)
            .filter_map(|item| Some((item.words, item.values.value(metric)?, item.id.as_str())))
            .collect();
        known.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let step = known.len().div_ceil(MOST_POINTS).max(1);
        for (words, score, id) in known.iter().step_by(step) {
            let (px, py) = (x.at(*words as f64), y.at(*score));
            figure.disc((px, py), 2.2, color(at), 0.6);
            let text = told(&format!("{id}, {model}"), label(metric), Some(*score), None);
            figure.tip((px - 3.0, py - 3.0), (px + 3.0, py + 3.0), format!("{text}, {words} words"));
        }
        let points: Vec<(usize, f64)> = known.into_iter().map(|(words, score, _)| (words, score)).collect();
        let line: Vec<(f64, f64)> = means(&points).iter().map(|(words, score)| (x.at(*words), y.at(*score))).collect();
        if line.len() > 1 {
            figure.line(line, color(at), 2.5);
        }
    }
    figure.line([(left, top), (left, bottom), (right, bottom)], MUTED, 1.0);
}

/// Mean length and score of equal parts of the points, which are sorted by length; captions of one length stay together.
fn means(points: &[(usize, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(PARTS).max(LEAST_IN_PART);
    let mut parts: Vec<Vec<(usize, f64)>> = Vec::new();
    for same in points.chunk_by(|a, b| a.0 == b.0) {
        match parts.last_mut().filter(|part| part.len() < size) {
            Some(part) => part.extend(same),
            None => parts.push(same.to_vec()),
        }
    }
    let mean = |part: Vec<(usize, f64)>| {
        let (words, score) = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 as f64, sum.1 + point.1));
        (words / part.len() as f64, score / part.len() as f64)
    };
    parts.into_iter().map(mean).collect()
}

fn alt(run: &CaptionRun, models: &[String], datasets: &[String]) -> String {
    let mut parts = Vec::new();
    for dataset in datasets {
        for model in models {
            if let Some(words) = run.result(dataset, model).and_then(|row| row.words) {
                parts.push(format!("{model} on {dataset} writes {words:.1} words on average"));
            }
        }
    }
    let metrics = AGAINST_LENGTH.map(label).join(" and ");
    format!("Scatter plots of {metrics} of each caption against its length in words: {}.", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::means;

    #[test]
    fn captions_of_one_length_share_one_mean() {
        let points =
            |count: usize| -> Vec<(usize, f64)> { (0..count).map(|k| (if k < 8 { 3 } else { k }, k as f64)).collect() };
        let many = means(&points(64));
        assert_eq!((many.len(), many[0], many[4]), (8, (3.0, 3.5), (35.5, 35.5)));
        assert_eq!(means(&points(16)), [(3.0, 3.5), (10.5, 10.5), (14.5, 14.5)]);
    }
}
