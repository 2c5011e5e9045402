//! FID against LPIPS: how near the style, how near the photo, with lines of equal ArtFID.

use super::labels::{self, Box4};
use super::lines::lines;
use super::{strategy_colors, strategy_shapes};
use crate::report::figure::{Align, Figure, GRID, INK, MUTED, PAPER, shorten, shorten_middle, text_width};
use crate::report::number::{short, ticks};
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, WIDTH, nothing, shape, titled};
use crate::report::style::{PHOTO, STYLE, StyleRun};

pub(super) const TOP: f64 = 84.0;
pub(super) const BOTTOM: f64 = 484.0;
pub(super) const LEFT: f64 = 72.0;
pub(super) const RIGHT: f64 = WIDTH - 70.0;
const RADIUS: f64 = 6.0;
/// How far a mark shows around one that lies on it, and for how many of them.
const RING: f64 = 3.5;
const MOST_RINGS: usize = 3;
/// More names than this hide the marks; strategies along strength are named by the frontier's legend then.
const MOST_NAMES: usize = 12;

struct Strategy {
    at: usize,
    name: String,
    lpips: f64,
    fid: f64,
}

/// The scatter; strategies that lack a value are named under it.
pub fn figure(run: &StyleRun) -> Figure {
    let title = "Style against content";
    let known: Vec<Strategy> = run.ranking().into_iter().filter_map(|at| strategy(run, at)).collect();
    if known.is_empty() {
        return nothing(titled(140.0, title, ""), "No strategy has both FID and LPIPS.");
    }
    let named = known.len() <= MOST_NAMES || lines(run).is_empty();
    let reading = if !named {
        "Lower: nearer the style; left: nearer the photo. Dashed: equal ArtFID. A hue is a line of the frontier, darker at \
         higher strength."
    } else {
        "Towards the bottom the style is met better, towards the left the photo is kept better. \
                   Dashed: equal ArtFID."
    };
    let mut figure = titled(BOTTOM + 50.0, title, reading);
    let x = Axis { values: padded(known.iter().map(|s| s.lpips)), pixels: (LEFT, RIGHT) };
    let y = Axis { values: padded(known.iter().map(|s| s.fid)), pixels: (BOTTOM, TOP) };
    axes(&mut figure, &x, &y);
    let contours = contours(&mut figure, &x, &y, &known);
    let unlabelled = if named {
        points(&mut figure, &x, &y, &known, &contours, run)
    } else {
        marks(&mut figure, &x, &y, &known, run);
        Vec::new()
    };
    notes(&mut figure, run, &known, &unlabelled);
    let values = known.iter().map(|s| format!("{} LPIPS {} FID {}", s.name, short(Some(s.lpips)), short(Some(s.fid))));
    figure.alt = format!("Scatter plot of FID against LPIPS: {}.", values.collect::<Vec<_>>().join("; "));
    figure
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

/// Grid, values and names of both axes.
pub(super) fn axes(figure: &mut Figure, x: &Axis, y: &Axis) {
    x.draw_horizontal(figure, TOP, BOTTOM, PHOTO.axis());
    let (values, decimals) = y.ticks();
    for value in values {
        figure.line([(LEFT, y.at(value)), (RIGHT, y.at(value))], GRID, 1.0);
        figure.text((LEFT - 8.0, y.at(value)), format!("{value:.decimals$}"), SMALL, MUTED, Align::Right);
    }
    figure.text((MARGIN, TOP - 18.0), STYLE.axis(), SMALL + 1.0, INK, Align::Left);
    figure.line([(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], MUTED, 1.0);
}

/// Draws lines of equal (1 + LPIPS) · (1 + FID) and returns the boxes of their labels.
fn contours(figure: &mut Figure, x: &Axis, y: &Axis, known: &[Strategy]) -> Vec<Box4> {
    let value = |lpips: f64, fid: f64| (1.0 + lpips) * (1.0 + fid);
    let (levels, decimals) = ticks(value(x.values.0, y.values.0), value(x.values.1, y.values.1), 6);
    let mut boxes: Vec<Box4> = Vec::new();
    for level in levels {
        let along = (0..=160).map(|k| x.values.0 + (x.values.1 - x.values.0) * f64::from(k) / 160.0);
        let curve = along.map(|lpips| (x.at(lpips), y.at(level / (1.0 + lpips) - 1.0)));
        let curve: Vec<_> = curve.filter(|(_, py)| (TOP..=BOTTOM).contains(py)).collect();
        let Some(end) = curve.last().copied().filter(|_| curve.len() > 2) else { continue };
        for dash in curve.windows(2).step_by(2) {
            figure.line(dash, MUTED, 0.75);
        }
        // At the right edge, beside the plot; curves that leave at the bottom go without a label.
        let text = format!("{level:.decimals$}");
        let size = (text_width(&text, SMALL - 1.0, false), SMALL - 1.0);
        let place = [RIGHT + 6.0, end.1 - size.1 / 2.0, RIGHT + 6.0 + size.0, end.1 + size.1 / 2.0];
        if end.0 > RIGHT - 1.0 && !boxes.iter().any(|b| labels::meet(b, &place)) {
            figure.text((RIGHT + 6.0, end.1), text, SMALL - 1.0, MUTED, Align::Left);
            boxes.push(place);
        }
    }
    if !boxes.is_empty() && !known.is_empty() {
        figure.text((RIGHT + 6.0, TOP - 18.0), "ArtFID", SMALL - 1.0, MUTED, Align::Left);
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
    }
}

/// Draws marks and names; returns the names for which there was no room.
fn points(figure: &mut Figure, x: &Axis, y: &Axis, known: &[Strategy], taken: &[Box4], run: &StyleRun) -> Vec<String> {
    let marks: Vec<_> = known.iter().map(|s| (x.at(s.lpips), y.at(s.fid))).collect();
    let names: Vec<_> = known.iter().map(|s| shorten_middle(&s.name, NAME, 190.0)).collect();
    let sizes: Vec<_> = names.iter().map(|name| (text_width(name, NAME, false), NAME)).collect();
    let bounds = [LEFT + 4.0, TOP, RIGHT, BOTTOM - 4.0];
    let places = labels::place(&marks, &sizes, RADIUS, bounds, taken);
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
    let absent = run.results.iter().enumerate().filter(|(at, _)| !known.iter().any(|s| s.at == *at));
    let absent: Vec<_> = absent.map(|(_, row)| row.strategy.clone()).collect();
    for (what, names) in
        [("Without FID or LPIPS, not drawn: ", absent), ("No room for the names of ", unlabelled.to_vec())]
    {
        if !names.is_empty() {
            let line = shorten(&format!("{what}{}", names.join(", ")), SMALL, WIDTH - 2.0 * MARGIN);
            figure.text((MARGIN, figure.height + 2.0), line, SMALL, MUTED, Align::Left);
            figure.height += 20.0;
        }
    }
}
