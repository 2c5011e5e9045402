//! ArtFID per strategy with its interval: bars, best first.

use plotters::style::RGBColor;

use super::strategy_colors;
use crate::report::figure::{Align, Figure, INK, MUTED, shorten_middle, text_width, wrap};
use crate::report::number::{finite, short};
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, WIDTH, nothing, titled};
use crate::report::style::StyleRun;
use crate::run::style::ResultRow;

const TOP: f64 = 62.0;
const LABELS: f64 = 230.0;
const LINE: f64 = 14.0;
/// Room for the values, right of the bars.
const VALUES: f64 = 60.0;

/// The bars, best first; strategies without a value keep their row and say so.
pub fn figure(run: &StyleRun) -> Figure {
    let order = run.ranking();
    let styles: Vec<Vec<String>> =
        order.iter().map(|at| wrap(&run.results[*at].style_text, SMALL, LABELS, 2)).collect();
    let heights: Vec<f64> = styles.iter().map(|lines| 30.0 + LINE * lines.len() as f64).collect();
    let bottom = TOP + heights.iter().sum::<f64>();
    let title = "ArtFID by strategy";
    let mut figure = titled(bottom + 48.0, title, "Lower is better. The thin line is the 95 % bootstrap interval.");
    let Some(axis) = axis(run) else {
        return nothing(titled(140.0, title, ""), "No strategy has an ArtFID.");
    };
    axis.draw_horizontal(&mut figure, TOP, bottom, "ArtFID = (1 + LPIPS) · (1 + FID)");
    let colors = strategy_colors(run);
    let mut top = TOP;
    for ((at, style), height) in order.iter().zip(&styles).zip(&heights) {
        let row = &run.results[*at];
        let middle = top + height / 2.0;
        names(&mut figure, row, style, middle);
        match finite(row.artfid) {
            Some(value) => bar(&mut figure, &axis, row, value, colors[*at], middle),
            None => figure.text((axis.pixels.0 + 8.0, middle), "not measured", SMALL, MUTED, Align::Left),
        }
        top += height;
    }
    figure.line([(axis.pixels.0, TOP), (axis.pixels.0, bottom)], MUTED, 1.0);
    figure.alt = alt(run, &order);
    figure
}

fn axis(run: &StyleRun) -> Option<Axis> {
    let measured = run.results.iter().filter(|row| finite(row.artfid).is_some());
    let high =
        measured.clone().flat_map(|row| [finite(row.artfid), finite(row.artfid_high)]).flatten().reduce(f64::max)?;
    let intervals = measured.map(interval_width).fold(0.0, f64::max);
    let (left, right) = (MARGIN + LABELS + 14.0, WIDTH - MARGIN - intervals - VALUES - 10.0);
    Some(Axis { values: (0.0, high.max(f64::MIN_POSITIVE) * 1.02), pixels: (left, right) })
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

fn bar(figure: &mut Figure, axis: &Axis, row: &ResultRow, value: f64, color: RGBColor, middle: f64) {
    figure.rect((axis.at(0.0), middle - 9.0), (axis.at(value), middle + 9.0), color, 0.85);
    if let (Some(low), Some(high)) = (finite(row.artfid_low), finite(row.artfid_high)) {
        let (low, high) = (axis.at(low.max(0.0)), axis.at(high));
        figure.line([(low, middle), (high, middle)], INK, 1.5);
        for end in [low, high] {
            figure.line([(end, middle - 4.0), (end, middle + 4.0)], INK, 1.5);
        }
    }
    figure.bold((axis.pixels.1 + VALUES, middle), short(row.artfid), SMALL + 1.0, INK, Align::Right);
    figure.text((axis.pixels.1 + VALUES + 8.0, middle), interval(row), SMALL, MUTED, Align::Left);
}

fn interval(row: &ResultRow) -> String {
    match (finite(row.artfid_low), finite(row.artfid_high)) {
        (Some(low), Some(high)) => format!("[{}, {}]", short(Some(low)), short(Some(high))),
        _ => String::new(),
    }
}

fn interval_width(row: &ResultRow) -> f64 {
    text_width(&interval(row), SMALL, false)
}

fn alt(run: &StyleRun, order: &[usize]) -> String {
    let values = order
        .iter()
        .map(|at| &run.results[*at])
        .map(|row| format!("{} {} {}", row.strategy, short(row.artfid), interval(row)));
    format!("Bar chart of ArtFID, best first: {}.", values.collect::<Vec<_>>().join("; "))
}
