//! What all plots share: colours, marks, axes, and the files they go to.

use std::path::{Path, PathBuf};

use anyhow::Result;
use plotters::style::RGBColor;
use rayon::prelude::*;

use super::figure::{Align, Figure, GRID, INK, MUTED, Place};
use super::number::ticks;
use super::save;

pub(super) const WIDTH: f64 = 760.0;
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

/// A figure with its title and the line under it that says how to read it.
pub(super) fn titled(height: f64, title: &str, reading: &str) -> Figure {
    let mut figure = Figure { width: WIDTH, height, alt: String::new(), shapes: Vec::new() };
    figure.bold((MARGIN, 22.0), title, TITLE, INK, Align::Left);
    figure.text((MARGIN, 43.0), reading, SMALL, MUTED, Align::Left);
    figure
}

/// What is said where nothing can be drawn.
pub(super) fn nothing(mut figure: Figure, why: &str) -> Figure {
    figure.text((WIDTH / 2.0, (figure.height + 50.0) / 2.0), why, NAME, MUTED, Align::Middle);
    figure.alt = why.to_string();
    figure
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
