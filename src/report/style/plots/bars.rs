//! A metric per strategy with its interval: bars, best first.

use plotters::style::RGBColor;

use super::strategy_colors;
use crate::metrics::About;
use crate::metrics::stats::Interval;
use crate::report::figure::{Align, Figure, INK, MUTED, shorten_middle, text_width, wrap};
use crate::report::number::short;
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, WIDTH, nothing, titled};
use crate::report::style::StyleRun;
use crate::run::style::ResultRow;

const TOP: f64 = 62.0;
const LABELS: f64 = 230.0;
const LINE: f64 = 14.0;
/// Room for the values, right of the bars.
const VALUES: f64 = 60.0;

/// The bars, best first; strategies without a value keep their row and say so.
pub fn figure(run: &StyleRun, metric: &About) -> Figure {
    let order = run.ranking_by(metric);
    let styles: Vec<Vec<String>> =
        order.iter().map(|at| wrap(run.results[*at].style_text(), SMALL, LABELS, 2)).collect();
    let heights: Vec<f64> = styles.iter().map(|lines| 30.0 + LINE * lines.len() as f64).collect();
    let bottom = TOP + heights.iter().sum::<f64>();
    let title = format!("{} by strategy", metric.label);
    let better = if metric.higher_is_better { "Higher" } else { "Lower" };
    let reading = format!("{better} is better. The thin line is the 95 % bootstrap interval.");
    let mut figure = titled(bottom + 48.0, &title, &reading);
    let Some(axis) = axis(run, metric) else {
        return nothing(titled(140.0, &title, ""), &format!("No strategy has {}.", metric.one()));
    };
    axis.draw_horizontal(&mut figure, TOP, bottom, metric.axis());
    let colors = strategy_colors(run);
    let mut top = TOP;
    for ((at, style), height) in order.iter().zip(&styles).zip(&heights) {
        let row = &run.results[*at];
        let middle = top + height / 2.0;
        names(&mut figure, row, style, middle);
        match row.values.value(metric.name) {
            Some(value) => bar(&mut figure, &axis, (value, row.values.interval(metric.name)), colors[*at], middle),
            None => figure.text((axis.pixels.0 + 8.0, middle), "not measured", SMALL, MUTED, Align::Left),
        }
        top += height;
    }
    figure.line([(axis.at(0.0), TOP), (axis.at(0.0), bottom)], MUTED, 1.0);
    figure.alt = alt(run, metric, &order);
    figure
}

fn axis(run: &StyleRun, metric: &About) -> Option<Axis> {
    let known = || run.results.iter().map(|row| &row.values).filter(|values| values.value(metric.name).is_some());
    let ends = || {
        known().flat_map(|values| {
            let interval = values.interval(metric.name);
            [values.value(metric.name), interval.map(|interval| interval.low), interval.map(|interval| interval.high)]
        })
    };
    let (low, high) = (ends().flatten().reduce(f64::min)?, ends().flatten().reduce(f64::max)?);
    let widths = known().map(|values| text_width(&shown(values.interval(metric.name)), SMALL, false));
    let (left, right) = (MARGIN + LABELS + 14.0, WIDTH - MARGIN - widths.fold(0.0, f64::max) - VALUES - 10.0);
    Some(Axis { values: (low.min(0.0), high.max(f64::MIN_POSITIVE) * 1.02), pixels: (left, right) })
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

fn bar(figure: &mut Figure, axis: &Axis, (value, interval): (f64, Option<Interval>), color: RGBColor, middle: f64) {
    figure.rect((axis.at(0.0), middle - 9.0), (axis.at(value), middle + 9.0), color, 0.85);
    if let Some(Interval { low, high }) = interval {
        let (low, high) = (axis.at(low), axis.at(high));
        figure.line([(low, middle), (high, middle)], INK, 1.5);
        for end in [low, high] {
            figure.line([(end, middle - 4.0), (end, middle + 4.0)], INK, 1.5);
        }
    }
    figure.bold((axis.pixels.1 + VALUES, middle), short(Some(value)), SMALL + 1.0, INK, Align::Right);
    figure.text((axis.pixels.1 + VALUES + 8.0, middle), shown(interval), SMALL, MUTED, Align::Left);
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
