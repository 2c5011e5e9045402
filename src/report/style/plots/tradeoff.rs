//! FID against LPIPS: how near the style, how near the photo, with lines of equal ArtFID.

use super::labels::{self, Box4};
use super::lines::lines;
use super::{strategy_colors, strategy_shapes};
use crate::metrics::About;
use crate::report::figure::{Align, Figure, GRID, INK, MUTED, PAPER, shorten, shorten_middle, text_width};
use crate::report::number::{short, ticks};
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, Sheet, nothing, shape, titled, told};
use crate::report::style::{PHOTO, STYLE, StyleRun};
use crate::run::style::ResultRow;

/// Where the plot is, between its axes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Field {
    /// Below what stands over it, which is `drop` lower than a line of title and one of reading; to its right there is room
    /// for the names of contours.
    pub fn new(sheet: Sheet, drop: f64) -> Self {
        let top = 84.0 + drop;
        match sheet {
            Sheet::Wide => Self { left: 72.0, right: sheet.width() - 70.0, top, bottom: top + 400.0 },
            Sheet::Narrow => Self { left: 52.0, right: sheet.width() - 56.0, top, bottom: top + 300.0 },
        }
    }

    /// Where labels may be.
    pub fn bounds(&self) -> Box4 {
        [self.left + 4.0, self.top, self.right, self.bottom - 4.0]
    }
}

const RADIUS: f64 = 6.0;
/// How far a mark shows around one that lies on it, and for how many of them.
const RING: f64 = 3.5;
const MOST_RINGS: usize = 3;
/// More names than this hide the marks; strategies along strength are named by the frontier's legend then.
const MOST_NAMES: usize = 12;

/// A strategy that has both values.
pub(super) struct Strategy {
    /// Its position in results.csv.
    pub at: usize,
    pub name: String,
    pub lpips: f64,
    pub fid: f64,
}

/// The scatter; strategies that lack a value are named under it.
pub fn figure(run: &StyleRun, sheet: Sheet) -> Figure {
    let title = "Style against content";
    let known = measured(run);
    if known.is_empty() {
        return nothing(sheet, title, "No strategy has both FID and LPIPS.");
    }
    let named = known.len() <= MOST_NAMES || lines(run).is_empty();
    let reading = if !named {
        "Lower: nearer the style; left: nearer the photo. Dashed: equal ArtFID. A hue is a line of the frontier, darker at \
         higher strength."
    } else {
        "Towards the bottom the style is met better, towards the left the photo is kept better. \
                   Dashed: equal ArtFID."
    };
    let (mut figure, drop) = titled(sheet, title, reading);
    let field = Field::new(sheet, drop);
    figure.height = field.bottom + 50.0;
    let x = Axis { values: padded(known.iter().map(|s| s.lpips)), pixels: (field.left, field.right) };
    let y = Axis { values: padded(known.iter().map(|s| s.fid)), pixels: (field.bottom, field.top) };
    axes(&mut figure, &x, &y);
    let contours = contours(&mut figure, &x, &y, &known);
    let unlabelled = if named {
        points(&mut figure, &x, &y, &known, &contours, (run, field))
    } else {
        marks(&mut figure, &x, &y, &known, run);
        Vec::new()
    };
    notes(&mut figure, run, &known, &unlabelled);
    let values = known.iter().map(|s| format!("{} LPIPS {} FID {}", s.name, short(Some(s.lpips)), short(Some(s.fid))));
    figure.alt = format!("Scatter plot of FID against LPIPS: {}.", values.collect::<Vec<_>>().join("; "));
    figure
}

/// The strategies that can be drawn, best first.
pub(super) fn measured(run: &StyleRun) -> Vec<Strategy> {
    run.ranking().into_iter().filter_map(|at| strategy(run, at)).collect()
}

fn strategy(run: &StyleRun, at: usize) -> Option<Strategy> {
    let row = &run.results[at];
    Some(Strategy {
        at,
        name: row.strategy.clone(),
        lpips: row.values.value(PHOTO.name)?,
        fid: row.values.value(STYLE.name)?,
    })
}

/// The range of the values with room around it, also around a single value; never below zero.
fn padded(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    let room = ((high - low) * 0.22).max(high.abs() * 0.04).max(1e-3);
    ((low - room).max(0.0), high + room)
}

/// What a mark says of its strategy: both of its distances with their intervals.
pub(super) fn told_both(row: &ResultRow) -> String {
    let of = |about: &About| {
        told("", about.label, row.values.value(about.name), row.values.interval(about.name))
            .trim_start_matches(": ")
            .to_string()
    };
    format!("{}: {}, {}", row.strategy, of(PHOTO), of(STYLE))
}

/// Grid, values and names of both axes.
pub(super) fn axes(figure: &mut Figure, x: &Axis, y: &Axis) {
    let ((left, right), (bottom, top)) = (x.pixels, y.pixels);
    x.draw_horizontal(figure, top, bottom, PHOTO.axis());
    let (values, decimals) = y.ticks();
    for value in values {
        figure.line([(left, y.at(value)), (right, y.at(value))], GRID, 1.0);
        figure.text((left - 8.0, y.at(value)), format!("{value:.decimals$}"), SMALL, MUTED, Align::Right);
    }
    figure.text((MARGIN, top - 18.0), STYLE.axis(), SMALL + 1.0, INK, Align::Left);
    figure.line([(left, top), (left, bottom), (right, bottom)], MUTED, 1.0);
}

/// Draws lines of equal (1 + LPIPS) · (1 + FID) and returns the boxes of their labels.
fn contours(figure: &mut Figure, x: &Axis, y: &Axis, known: &[Strategy]) -> Vec<Box4> {
    let ((_, right), (bottom, top)) = (x.pixels, y.pixels);
    let value = |lpips: f64, fid: f64| (1.0 + lpips) * (1.0 + fid);
    let (levels, decimals) = ticks(value(x.values.0, y.values.0), value(x.values.1, y.values.1), 6);
    let mut boxes: Vec<Box4> = Vec::new();
    for level in levels {
        let along = (0..=160).map(|k| x.values.0 + (x.values.1 - x.values.0) * f64::from(k) / 160.0);
        let curve = along.map(|lpips| (x.at(lpips), y.at(level / (1.0 + lpips) - 1.0)));
        let curve: Vec<_> = curve.filter(|(_, py)| (top..=bottom).contains(py)).collect();
        let Some(end) = curve.last().copied().filter(|_| curve.len() > 2) else { continue };
        for dash in curve.windows(2).step_by(2) {
            figure.line(dash, MUTED, 0.75);
        }
        // At the right edge, beside the plot; curves that leave at the bottom go without a label.
        let text = format!("{level:.decimals$}");
        let size = (text_width(&text, SMALL - 1.0, false), SMALL - 1.0);
        let place = [right + 6.0, end.1 - size.1 / 2.0, right + 6.0 + size.0, end.1 + size.1 / 2.0];
        if end.0 > right - 1.0 && !boxes.iter().any(|b| labels::meet(b, &place)) {
            figure.text((right + 6.0, end.1), text, SMALL - 1.0, MUTED, Align::Left);
            boxes.push(place);
        }
    }
    if !boxes.is_empty() && !known.is_empty() {
        figure.text((right + 6.0, top - 18.0), "ArtFID", SMALL - 1.0, MUTED, Align::Left);
    }
    boxes
}

fn marks(figure: &mut Figure, x: &Axis, y: &Axis, known: &[Strategy], run: &StyleRun) {
    let (colors, shapes) = (strategy_colors(run), strategy_shapes(run));
    let places: Vec<(f64, f64)> = known.iter().map(|s| (x.at(s.lpips), y.at(s.fid))).collect();
    for (k, (s, at)) in known.iter().zip(&places).enumerate() {
        // One that others will lie on shows around them.
        let above = places[k + 1..].iter().filter(|other| (other.0 - at.0).hypot(other.1 - at.1) < RADIUS).count();
        let radius = RADIUS + RING * above.min(MOST_RINGS) as f64;
        // An edge that tells it from one of a like colour below it.
        shape(figure, shapes[s.at], *at, radius + 1.2, PAPER);
        shape(figure, shapes[s.at], *at, radius, colors[s.at]);
        figure.tip((at.0 - radius, at.1 - radius), (at.0 + radius, at.1 + radius), told_both(&run.results[s.at]));
    }
}

/// Draws marks and names; returns the names for which there was no room.
fn points(
    figure: &mut Figure,
    x: &Axis,
    y: &Axis,
    known: &[Strategy],
    taken: &[Box4],
    (run, field): (&StyleRun, Field),
) -> Vec<String> {
    let marks: Vec<_> = known.iter().map(|s| (x.at(s.lpips), y.at(s.fid))).collect();
    let placed = |part: f64| {
        let short = |s: &Strategy| shorten_middle(&s.name, NAME, (field.right - field.left) * part);
        let names: Vec<String> = known.iter().map(short).collect();
        let sizes: Vec<_> = names.iter().map(|name| (text_width(name, NAME, false), NAME)).collect();
        let places = labels::place(&marks, &sizes, RADIUS, field.bounds(), taken);
        (names, places)
    };
    // Whole names where there is room for all of them.
    let (names, places) =
        Some(placed(0.7)).filter(|(_, places)| places.iter().all(Option::is_some)).unwrap_or_else(|| placed(0.4));
    for (at, place) in marks.iter().zip(&places) {
        let Some([left, top, right, bottom]) = *place else { continue };
        // A line to the label where it had to go away from its mark.
        let near = (at.0.clamp(left, right), at.1.clamp(top, bottom));
        if (near.0 - at.0).hypot(near.1 - at.1) > RADIUS * 2.5 {
            figure.line([*at, near], MUTED, 0.75);
        }
    }
    self::marks(figure, x, y, known, run);
    let mut unlabelled = Vec::new();
    for (name, place) in names.iter().zip(&places) {
        match place {
            Some([left, top, right, bottom]) => {
                figure.rect((left - 1.0, *top), (right + 1.0, *bottom), PAPER, 0.8); // no line through a name
                figure.text((*left, (top + bottom) / 2.0), name, NAME, INK, Align::Left);
            }
            None => unlabelled.push(name.clone()),
        }
    }
    unlabelled
}

/// What the plot does not show, said under it.
fn notes(figure: &mut Figure, run: &StyleRun, known: &[Strategy], unlabelled: &[String]) {
    absent(figure, run, known);
    note(figure, "No room for the names of ", unlabelled);
}

/// The strategies that lack a value, said under the plot.
pub(super) fn absent(figure: &mut Figure, run: &StyleRun, known: &[Strategy]) {
    let absent = run.results.iter().enumerate().filter(|(at, _)| !known.iter().any(|s| s.at == *at));
    let absent: Vec<String> = absent.map(|(_, row)| row.strategy.clone()).collect();
    note(figure, "Without FID or LPIPS, not drawn: ", &absent);
}

fn note(figure: &mut Figure, what: &str, names: &[String]) {
    if !names.is_empty() {
        let line = shorten(&format!("{what}{}", names.join(", ")), SMALL, figure.width - 2.0 * MARGIN);
        figure.text((MARGIN, figure.height + 2.0), line, SMALL, MUTED, Align::Left);
        figure.height += 20.0;
    }
}
