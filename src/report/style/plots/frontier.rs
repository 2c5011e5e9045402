//! The frontier: how much of the photo is kept against how far the style is reached, along strength.

use super::labels;
use super::lines::{Line, lines};
use super::tradeoff::{Field, axes, told_both};
use crate::metrics::Value;
use crate::metrics::stats::Interval;
use crate::report::figure::{Align, Figure, INK, MUTED, PAPER, shorten, shorten_middle, text_width};
use crate::report::number::{finite, short};
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, Sheet, color, nothing, shape, titled};
use crate::report::style::{PHOTO, STYLE, StyleRun};
use crate::run::style::ResultRow;

const RADIUS: f64 = 4.5;
const LEGEND_LINE: f64 = 19.0;

/// A strategy on the plot.
struct Spot<'a> {
    row: &'a ResultRow,
    lpips: f64,
    fid: f64,
}

/// A line with what of it can be drawn.
struct Drawn<'a> {
    line: &'a Line,
    /// Its position among all lines: its colour and mark.
    at: usize,
    spots: Vec<Spot<'a>>,
}

/// The plot; None where no picture of the run started from a photo.
pub fn figure(run: &StyleRun, sheet: Sheet) -> Option<Figure> {
    let lines = lines(run);
    if lines.is_empty() {
        return None;
    }
    let title = "Photo kept against style reached, along strength";
    let drawn: Vec<Drawn> = lines.iter().enumerate().filter_map(|(at, line)| drawn(run, at, line)).collect();
    if drawn.is_empty() {
        return Some(nothing(sheet, title, "No strategy has both FID and LPIPS."));
    }
    let reading = "A line is one strategy from low to high strength; the number at a point is its strength, \"text\" is drawn \
                   from text alone. Thin: 95 % intervals.";
    let (mut figure, drop) = titled(sheet, title, reading);
    let field = Field::new(sheet, drop);
    figure.height = field.bottom + 50.0;
    let spots = || drawn.iter().flat_map(|line| &line.spots);
    let ends = |value: f64, Value { low, high, .. }: Value| {
        [value, finite(low).unwrap_or(value), finite(high).unwrap_or(value)]
    };
    let x = Axis {
        values: padded(spots().flat_map(|s| ends(s.lpips, s.row.values.get(PHOTO.name)))),
        pixels: (field.left, field.right),
    };
    let y = Axis {
        values: padded(spots().flat_map(|s| ends(s.fid, s.row.values.get(STYLE.name)))),
        pixels: (field.bottom, field.top),
    };
    axes(&mut figure, &x, &y);
    for line in &drawn {
        intervals(&mut figure, line, &x, &y);
    }
    for line in &drawn {
        connect(&mut figure, line, &x, &y);
    }
    points(&mut figure, &drawn, (&x, &y), field);
    legend(&mut figure, &drawn);
    absent(&mut figure, run, &drawn);
    figure.alt = alt(&drawn);
    Some(figure)
}

fn drawn<'a>(run: &'a StyleRun, at: usize, line: &'a Line) -> Option<Drawn<'a>> {
    let spot = |member: &usize| {
        let row = &run.results[*member];
        Some(Spot { row, lpips: row.values.value(PHOTO.name)?, fid: row.values.value(STYLE.name)? })
    };
    let spots: Vec<Spot> = line.members.iter().filter_map(spot).collect();
    (!spots.is_empty()).then_some(Drawn { line, at, spots })
}

/// The range of the values with some room; never below zero.
pub(super) fn padded(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
    let room = ((high - low) * 0.08).max(high.abs() * 0.02).max(1e-3);
    ((low - room).max(0.0), high + room)
}

fn intervals(figure: &mut Figure, line: &Drawn, x: &Axis, y: &Axis) {
    for spot in &line.spots {
        let at = (x.at(spot.lpips), y.at(spot.fid));
        if let Some(Interval { low, high }) = spot.row.values.interval(PHOTO.name) {
            figure.thin([(x.at(low), at.1), (x.at(high), at.1)], color(line.at));
        }
        if let Some(Interval { low, high }) = spot.row.values.interval(STYLE.name) {
            figure.thin([(at.0, y.at(low)), (at.0, y.at(high))], color(line.at));
        }
    }
}

/// From strength to strength; dashed on to text-to-image, which is no strength.
fn connect(figure: &mut Figure, line: &Drawn, x: &Axis, y: &Axis) {
    let at = |spot: &Spot| (x.at(spot.lpips), y.at(spot.fid));
    for pair in line.spots.windows(2) {
        let (from, to) = (at(&pair[0]), at(&pair[1]));
        if pair[1].row.strength().is_some() {
            figure.line([from, to], color(line.at), 2.0);
            continue;
        }
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let along = |t: f64| (from.0 + (to.0 - from.0) * t / length, from.1 + (to.1 - from.1) * t / length);
        let mut start = 0.0;
        while start < length {
            figure.line([along(start), along((start + 5.0).min(length))], color(line.at), 1.5);
            start += 9.0;
        }
    }
}

/// Marks, text-to-image hollow, each with its strength beside it where there is room.
fn points(figure: &mut Figure, drawn: &[Drawn], (x, y): (&Axis, &Axis), field: Field) {
    let all: Vec<(usize, &Spot)> =
        drawn.iter().flat_map(|line| line.spots.iter().map(|spot| (line.at, spot))).collect();
    let places: Vec<(f64, f64)> = all.iter().map(|(_, spot)| (x.at(spot.lpips), y.at(spot.fid))).collect();
    let texts: Vec<String> = all.iter().map(|(_, spot)| said(spot.row)).collect();
    let sizes: Vec<_> = texts.iter().map(|text| (text_width(text, SMALL, false), SMALL)).collect();
    let boxes = labels::place(&places, &sizes, RADIUS, field.bounds(), &[]);
    for (((line, spot), at), place) in all.iter().zip(&places).zip(&boxes) {
        if let Some([left, top, right, bottom]) = *place {
            // A line to the label where it had to go away from its mark.
            let near = (at.0.clamp(left, right), at.1.clamp(top, bottom));
            if (near.0 - at.0).hypot(near.1 - at.1) > RADIUS * 3.0 {
                figure.line([*at, near], MUTED, 0.75);
            }
        }
        shape(figure, *line, *at, RADIUS, color(*line));
        if spot.row.strength().is_none() {
            shape(figure, *line, *at, RADIUS - 2.0, PAPER);
        }
        let reach = RADIUS + 2.0;
        figure.tip((at.0 - reach, at.1 - reach), (at.0 + reach, at.1 + reach), told_both(spot.row));
    }
    for (text, place) in texts.iter().zip(&boxes) {
        if let Some([left, top, right, bottom]) = *place {
            figure.rect((left - 1.0, top), (right + 1.0, bottom), PAPER, 0.7);
            figure.text((left, (top + bottom) / 2.0), text, SMALL, INK, Align::Left);
        }
    }
}

fn said(row: &ResultRow) -> String {
    row.strength().map_or("text".to_string(), |strength| strength.to_string())
}

/// The lines by name, under the plot, in two columns where they are many.
fn legend(figure: &mut Figure, drawn: &[Drawn]) {
    let room = figure.width - 2.0 * MARGIN;
    let columns = if drawn.len() > 3 && room > 500.0 { 2 } else { 1 };
    let width = room / columns as f64;
    let rows = drawn.len().div_ceil(columns);
    let top = figure.height + 8.0;
    for (k, line) in drawn.iter().enumerate() {
        let (left, y) = (MARGIN + width * (k / rows) as f64, top + LEGEND_LINE * (k % rows) as f64);
        figure.line([(left, y), (left + 26.0, y)], color(line.at), 2.0);
        shape(figure, line.at, (left + 13.0, y), RADIUS, color(line.at));
        let name = shorten_middle(&line.line.name, NAME, width - 50.0);
        figure.text((left + 34.0, y), name, NAME, INK, Align::Left);
    }
    figure.height = top + LEGEND_LINE * rows as f64;
}

/// What the plot does not show, said under it.
fn absent(figure: &mut Figure, run: &StyleRun, drawn: &[Drawn]) {
    let shown =
        |row: &ResultRow| drawn.iter().any(|line| line.spots.iter().any(|spot| spot.row.strategy == row.strategy));
    let absent: Vec<&str> = run.results.iter().filter(|row| !shown(row)).map(|row| row.strategy.as_str()).collect();
    if !absent.is_empty() {
        let line = format!("Without FID or LPIPS, not drawn: {}", absent.join(", "));
        let line = shorten(&line, SMALL, figure.width - 2.0 * MARGIN);
        figure.text((MARGIN, figure.height + 2.0), line, SMALL, MUTED, Align::Left);
        figure.height += 20.0;
    }
}

fn alt(drawn: &[Drawn]) -> String {
    let spot =
        |spot: &Spot| format!("{}: LPIPS {} FID {}", said(spot.row), short(Some(spot.lpips)), short(Some(spot.fid)));
    let line =
        |line: &Drawn| format!("{} {}", line.line.name, line.spots.iter().map(spot).collect::<Vec<_>>().join(", "));
    let lines: Vec<String> = drawn.iter().map(line).collect();
    format!("Lines of FID against LPIPS along strength: {}.", lines.join("; "))
}
