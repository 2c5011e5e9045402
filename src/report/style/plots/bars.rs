//! A metric per strategy with its interval: bars, best first.

use plotters::style::RGBColor;

use super::strategy_colors;
use crate::metrics::About;
use crate::metrics::stats::Interval;
use crate::report::figure::{Align, Figure, INK, MUTED, PAPER, shorten_middle, text_width, wrap};
use crate::report::number::short;
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, Sheet, nothing, titled, told};
use crate::report::style::StyleRun;
use crate::run::style::ResultRow;

const TOP: f64 = 62.0;
/// Room for names, left of the bars; on a narrow sheet they stand above them.
const LABELS: f64 = 230.0;
const ABOVE: f64 = 20.0;
const LINE: f64 = 14.0;
/// Lines of a style text; the tables have longer ones whole.
const MOST_LINES: usize = 5;
/// Room for the values, right of the bars.
const VALUES: f64 = 60.0;

/// The bars, best first; strategies without a value keep their row and say so.
pub fn figure(run: &StyleRun, metric: &About, sheet: Sheet) -> Figure {
    let order = run.ranking_by(metric);
    let (room, above) = if sheet.is_narrow() { (sheet.inner(), ABOVE) } else { (LABELS, 0.0) };
    let styles: Vec<Vec<String>> =
        order.iter().map(|at| wrap(run.results[*at].style_text(), SMALL, room, MOST_LINES)).collect();
    let height = |lines: &Vec<String>| {
        let text = above + LINE * lines.len() as f64;
        if sheet.is_narrow() { text + 32.0 } else { text + 30.0 }
    };
    let title = format!("{} by strategy", metric.label);
    let better = if metric.higher_is_better { "Higher" } else { "Lower" };
    let reading = format!("{better} is better. The thin line is the 95 % bootstrap interval.");
    let Some(axis) = axis(run, metric, sheet) else {
        return nothing(sheet, &title, &format!("No strategy has {}.", metric.one()));
    };
    let (mut figure, drop) = titled(sheet, &title, &reading);
    let start = TOP + drop;
    let bottom = start + styles.iter().map(height).sum::<f64>();
    figure.height = bottom + 48.0;
    axis.draw_horizontal(&mut figure, start, bottom, metric.axis());
    let colors = strategy_colors(run);
    let mut top = start;
    for (at, style) in order.iter().zip(&styles) {
        let row = &run.results[*at];
        let middle = if sheet.is_narrow() { top + height(style) - 16.0 } else { top + height(style) / 2.0 };
        let values_at = if sheet.is_narrow() {
            names_above(&mut figure, row, style, top + 10.0, &axis);
            (axis.pixels.1 - shown_width(row, metric) - 8.0, top + 10.0)
        } else {
            names(&mut figure, row, style, middle);
            (axis.pixels.1 + VALUES, middle)
        };
        match row.values.value(metric.name) {
            Some(value) => {
                let interval = row.values.interval(metric.name);
                bar(&mut figure, &axis, (value, interval), colors[*at], middle);
                let number = short(Some(value));
                if sheet.is_narrow() {
                    let left = values_at.0 - text_width(&number, SMALL + 1.0, true) - 2.0;
                    figure.rect((left, top + 2.0), (axis.pixels.1, top + 18.0), PAPER, 1.0);
                }
                figure.bold(values_at, number, SMALL + 1.0, INK, Align::Right);
                figure.text((values_at.0 + 8.0, values_at.1), shown(interval), SMALL, MUTED, Align::Left);
                let text = told(&row.strategy, metric.label, Some(value), interval);
                figure.tip((axis.pixels.0, middle - 11.0), (axis.pixels.1, middle + 11.0), text);
            }
            None => figure.text((axis.pixels.0 + 8.0, middle), "not measured", SMALL, MUTED, Align::Left),
        }
        if sheet.is_narrow() {
            // Beside the bar alone, so that it runs through no name.
            figure.line([(axis.at(0.0), middle - 13.0), (axis.at(0.0), middle + 13.0)], MUTED, 1.0);
        }
        top += height(style);
    }
    if !sheet.is_narrow() {
        figure.line([(axis.at(0.0), start), (axis.at(0.0), bottom)], MUTED, 1.0);
    }
    figure.alt = alt(run, metric, &order);
    figure
}

fn axis(run: &StyleRun, metric: &About, sheet: Sheet) -> Option<Axis> {
    let known = || run.results.iter().map(|row| &row.values).filter(|values| values.value(metric.name).is_some());
    let ends = || {
        known().flat_map(|values| {
            let interval = values.interval(metric.name);
            [values.value(metric.name), interval.map(|interval| interval.low), interval.map(|interval| interval.high)]
        })
    };
    let (low, high) = (ends().flatten().reduce(f64::min)?, ends().flatten().reduce(f64::max)?);
    let widths = || known().map(|values| text_width(&shown(values.interval(metric.name)), SMALL, false));
    let pixels = match sheet {
        Sheet::Narrow => (MARGIN, sheet.width() - MARGIN),
        Sheet::Wide => (MARGIN + LABELS + 14.0, sheet.width() - MARGIN - widths().fold(0.0, f64::max) - VALUES - 10.0),
    };
    Some(Axis { values: (low.min(0.0), high.max(f64::MIN_POSITIVE) * 1.02), pixels })
}

fn names(figure: &mut Figure, row: &ResultRow, style: &[String], middle: f64) {
    let right = MARGIN + LABELS;
    let mut y = middle - LINE * style.len() as f64 / 2.0;
    figure.text((right, y), shorten_middle(&row.strategy, NAME, LABELS), NAME, INK, Align::Right);
    for line in style {
        y += LINE + 1.0;
        figure.text((right, y), line, SMALL, MUTED, Align::Right);
    }
}

/// Name and style text over the bar; what the name leaves of its line is the values'.
fn names_above(figure: &mut Figure, row: &ResultRow, style: &[String], top: f64, axis: &Axis) {
    let room = (axis.pixels.1 - axis.pixels.0) * 0.55;
    figure.text_on_paper((axis.pixels.0, top), shorten_middle(&row.strategy, NAME, room), NAME, INK, Align::Left);
    for (at, line) in style.iter().enumerate() {
        figure.text_on_paper((axis.pixels.0, top + (LINE + 1.0) * (at + 1) as f64), line, SMALL, MUTED, Align::Left);
    }
}

fn bar(figure: &mut Figure, axis: &Axis, (value, interval): (f64, Option<Interval>), color: RGBColor, middle: f64) {
    figure.rect((axis.at(0.0), middle - 9.0), (axis.at(value), middle + 9.0), color, 0.85);
    if let Some(Interval { low, high }) = interval {
        let (low, high) = (axis.at(low), axis.at(high));
        figure.line([(low, middle), (high, middle)], INK, 1.5);
        for end in [low, high] {
            figure.line([(end, middle - 4.0), (end, middle + 4.0)], INK, 1.5);
        }
    }
}

fn shown_width(row: &ResultRow, metric: &About) -> f64 {
    text_width(&shown(row.values.interval(metric.name)), SMALL, false)
}

fn shown(interval: Option<Interval>) -> String {
    interval.map_or(String::new(), |Interval { low, high }| format!("[{}, {}]", short(Some(low)), short(Some(high))))
}

fn alt(run: &StyleRun, metric: &About, order: &[usize]) -> String {
    let values = order.iter().map(|at| &run.results[*at]).map(|row| {
        let (value, interval) = (row.values.value(metric.name), row.values.interval(metric.name));
        format!("{} {} {}", row.strategy, short(value), shown(interval))
    });
    format!("Bar chart of {}, best first: {}.", metric.label, values.collect::<Vec<_>>().join("; "))
}
