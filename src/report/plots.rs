//! What all plots share: colours, marks, axes, and the files they go to.

use std::path::{Path, PathBuf};

use anyhow::Result;
use plotters::style::RGBColor;
use rayon::prelude::*;

use super::figure::{Align, Figure, GRID, INK, MUTED, Place, wrap};
use super::number::{short, ticks};
use super::save;
use crate::metrics::stats::Interval;

/// How wide a figure may be: for a page on a desk and for files, or for a phone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sheet {
    Wide,
    Narrow,
}

impl Sheet {
    pub fn width(self) -> f64 {
        match self {
            Self::Wide => 760.0,
            Self::Narrow => 360.0,
        }
    }

    /// The room between the margins.
    pub fn inner(self) -> f64 {
        self.width() - 2.0 * MARGIN
    }

    pub fn is_narrow(self) -> bool {
        self == Self::Narrow
    }
}

pub(super) const MARGIN: f64 = 16.0;
pub(super) const TITLE: f64 = 16.0;
pub(super) const NAME: f64 = 13.0;
pub(super) const SMALL: f64 = 11.0;

/// Okabe and Ito's palette, told apart with every kind of colour vision, less the yellow that vanishes
/// on white (<https://jfly.uni-koeln.de/color/>). From the eighth strategy on the colours come again,
/// darker or lighter and with another mark; a strategy is always named beside its mark as well.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x8a, 0x8a, 0x8a),
];

/// Writes figures under their file stems.
pub(super) fn write(dir: &Path, figures: &[(&'static str, Figure)]) -> Result<Vec<PathBuf>> {
    let written: Result<Vec<[PathBuf; 2]>> = figures
        .par_iter()
        .map(|(stem, figure)| {
            let file = |extension: &str| dir.join("plots").join(format!("{stem}.{extension}"));
            save(&file("svg"), figure.svg(Place::File)?.as_bytes())?;
            save(&file("png"), &figure.png()?)?;
            Ok([file("png"), file("svg")])
        })
        .collect();
    Ok(written?.into_iter().flatten().collect())
}

/// The colour of the thing at this position of a list.
pub(super) fn color(position: usize) -> RGBColor {
    let base = PALETTE[position % PALETTE.len()];
    match position / PALETTE.len() % 3 {
        0 => base,
        1 => mixed(base, 0.0, 0.4),
        _ => mixed(base, 255.0, 0.4),
    }
}

/// The colour with `part` of black (0) or white (255) in it.
pub(super) fn mixed(RGBColor(r, g, b): RGBColor, end: f64, part: f64) -> RGBColor {
    let mix = |c: u8| (f64::from(c) * (1.0 - part) + end * part).round() as u8;
    RGBColor(mix(r), mix(g), mix(b))
}

/// Draws the mark of the thing at this position of a list.
pub(super) fn shape(figure: &mut Figure, position: usize, (x, y): (f64, f64), r: f64, color: RGBColor) {
    match position / PALETTE.len() % 3 {
        0 => figure.disc((x, y), r, color, 1.0),
        1 => figure.rect((x - r * 0.88, y - r * 0.88), (x + r * 0.88, y + r * 0.88), color, 1.0),
        _ => figure.area([(x, y - r * 1.2), (x + r * 1.2, y), (x, y + r * 1.2), (x - r * 1.2, y)], color, 1.0),
    }
}

/// A figure with its title and what says how to read it, a line each where there is room, and how much lower than that
/// all else begins.
pub(super) fn titled(sheet: Sheet, title: &str, reading: &str) -> (Figure, f64) {
    let mut figure = Figure { width: sheet.width(), height: 0.0, alt: String::new(), shapes: Vec::new() };
    // Bold letters are a little wider than those that are measured.
    let (titles, readings) = (wrap(title, TITLE, sheet.inner() * 0.95, 3), wrap(reading, SMALL, sheet.inner(), 8));
    let mut y = 22.0;
    for line in &titles {
        figure.bold((MARGIN, y), line, TITLE, INK, Align::Left);
        y += 21.0;
    }
    for line in &readings {
        figure.text((MARGIN, y), line, SMALL, MUTED, Align::Left);
        y += 15.0;
    }
    (figure, (titles.len().max(1) - 1) as f64 * 21.0 + (readings.len().max(1) - 1) as f64 * 15.0)
}

/// What is said where nothing can be drawn.
pub(super) fn nothing(sheet: Sheet, title: &str, why: &str) -> Figure {
    let (mut figure, drop) = titled(sheet, title, "");
    figure.height = 140.0 + drop;
    let lines = wrap(why, NAME, sheet.inner(), 4);
    for (at, line) in lines.iter().enumerate() {
        let y = (figure.height + 50.0 + drop) / 2.0 + 17.0 * (at as f64 - (lines.len() as f64 - 1.0) / 2.0);
        figure.text((sheet.width() / 2.0, y), line, NAME, MUTED, Align::Middle);
    }
    figure.alt = why.to_string();
    figure
}

/// What a mark or bar says of itself: whose it is, and a metric with its interval.
pub(super) fn told(name: &str, label: &str, value: Option<f64>, interval: Option<Interval>) -> String {
    let interval = interval
        .map_or(String::new(), |Interval { low, high }| format!(" [{}, {}]", short(Some(low)), short(Some(high))));
    format!("{name}: {label} {}{interval}", short(value))
}

/// A linear scale from values to pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub values: (f64, f64),
    pub pixels: (f64, f64),
}

impl Axis {
    pub fn at(&self, value: f64) -> f64 {
        let part = (value - self.values.0) / (self.values.1 - self.values.0);
        self.pixels.0 + part * (self.pixels.1 - self.pixels.0)
    }

    pub fn ticks(&self) -> (Vec<f64>, usize) {
        let room = (self.pixels.1 - self.pixels.0).abs();
        ticks(self.values.0, self.values.1, ((room / 80.0) as usize).clamp(3, 7))
    }

    /// Vertical grid lines from `top` to `bottom`, their values under them, and the axis' name.
    pub fn draw_horizontal(&self, figure: &mut Figure, top: f64, bottom: f64, name: &str) {
        let (ticks, decimals) = self.ticks();
        for value in ticks {
            figure.line([(self.at(value), top), (self.at(value), bottom)], GRID, 1.0);
            figure.text((self.at(value), bottom + 13.0), format!("{value:.decimals$}"), SMALL, MUTED, Align::Middle);
        }
        figure.text(((self.pixels.0 + self.pixels.1) / 2.0, bottom + 33.0), name, SMALL + 1.0, INK, Align::Middle);
    }
}
