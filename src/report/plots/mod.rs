//! The plots of a style experiment. A strategy has one colour and one mark in all of them; where
//! strategies form lines along strength, a line has one hue, paler towards the photo.

mod artfid;
mod frontier;
mod labels;
pub(super) mod lines;
mod lpips;
mod tradeoff;

use std::path::{Path, PathBuf};

use anyhow::Result;
use plotters::style::RGBColor;
use rayon::prelude::*;

use super::Run;
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

/// The plots, in the order in which the page shows them: file stem and figure.
pub(super) fn all(run: &Run) -> Vec<(&'static str, Figure)> {
    let mut figures = vec![("artfid", artfid::figure(run))];
    figures.extend(frontier::figure(run).map(|figure| ("frontier", figure)));
    figures.extend([("fid_lpips", tradeoff::figure(run)), ("lpips", lpips::figure(run))]);
    figures
}

/// Writes every plot as PNG and SVG into the run's `plots/`.
pub fn write(run: &Run) -> Result<Vec<PathBuf>> {
    write_all(&run.dir, &all(run))
}

/// Writes figures under their file stems.
pub(super) fn write_all(dir: &Path, figures: &[(&'static str, Figure)]) -> Result<Vec<PathBuf>> {
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
fn mixed(RGBColor(r, g, b): RGBColor, end: f64, part: f64) -> RGBColor {
    let mix = |c: u8| (f64::from(c) * (1.0 - part) + end * part).round() as u8;
    RGBColor(mix(r), mix(g), mix(b))
}

/// The colours of the strategies, in the order of results.csv.
pub(super) fn strategy_colors(run: &Run) -> Vec<RGBColor> {
    let mut colors: Vec<RGBColor> = (0..run.results.len()).map(color).collect();
    for (at, line) in lines::lines(run).into_iter().enumerate() {
        for (rank, member) in line.members.iter().enumerate() {
            // From pale, near the photo, to dark, far from it.
            let place = (rank + 1) as f64 / line.members.len() as f64;
            colors[*member] = if place > 0.75 {
                mixed(color(at), 0.0, place - 0.75)
            } else {
                mixed(color(at), 255.0, 0.7 * (0.75 - place))
            };
        }
    }
    colors
}

/// Which marks the strategies have, in the order of results.csv: those of a line share one.
fn strategy_shapes(run: &Run) -> Vec<usize> {
    let mut shapes: Vec<usize> = (0..run.results.len()).collect();
    for (at, line) in lines::lines(run).into_iter().enumerate() {
        line.members.iter().for_each(|member| shapes[*member] = at);
    }
    shapes
}

/// Draws the mark of the thing at this position of a list.
fn shape(figure: &mut Figure, position: usize, (x, y): (f64, f64), r: f64, color: RGBColor) {
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

#[cfg(test)]
mod tests {
    use super::{all, labels::meet};
    use crate::report::Run;
    use crate::report::rows::{ItemRow, ResultRow};

    /// Strategies whose values crowd: `spread` small puts all marks almost on one another.
    fn run(strategies: usize, spread: f64) -> Run {
        let mut run = Run::default();
        for s in 0..strategies {
            let v = spread * ((s * 7) % 5) as f64;
            run.results.push(ResultRow {
                strategy: format!("strategy number {s} {}", "x".repeat(s * 5)),
                style_text: "a style text of some length ".repeat(s / 4),
                artfid: Some((1.5 + v / 100.0) * (300.0 + v)),
                artfid_low: Some(400.0),
                artfid_high: Some(1234.5 + v),
                fid: Some(299.0 + v),
                lpips: Some(0.5 + v / 100.0),
                fid_low: Some(290.0 + v),
                fid_high: Some(320.0 + v),
                // Lines of four, the last of each from text alone.
                instruction: format!("{}", s / 4),
                strength: (s % 4 < 3 && s > 0).then(|| 0.25 * (s % 4 + 1) as f64),
                ..Default::default()
            });
            for k in 0..s * 3 {
                let lpips = Some(0.5 + 0.01 * ((k * k) % 17) as f64);
                run.items.push(ItemRow { strategy: run.results[s].strategy.clone(), lpips, ..Default::default() });
            }
        }
        run
    }

    #[test]
    fn no_text_meets_another_or_leaves_its_figure() {
        for (strategies, spread) in [(1, 0.0), (3, 10.0), (12, 10.0), (12, 0.0), (20, 2.0)] {
            for (name, figure) in all(&run(strategies, spread)) {
                let boxes = figure.text_boxes();
                for (at, (text, b)) in boxes.iter().enumerate() {
                    let inside = b[0] >= 0.0 && b[1] >= 0.0 && b[2] <= figure.width && b[3] <= figure.height;
                    assert!(inside, "{name} of {strategies}: {text:?} at {b:?}");
                    for (other, o) in &boxes[..at] {
                        // `meet` wants a gap; lines of one paragraph may be closer.
                        let o = [o[0] + 3.0, o[1] + 3.0, o[2] - 3.0, o[3] - 3.0];
                        assert!(!meet(b, &o), "{name} of {strategies}: {text:?} on {other:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_not_measured_is_said_and_not_drawn() {
        let mut run = run(3, 10.0);
        run.results[1].artfid = Some(f64::NAN);
        run.results[1].fid = None;
        run.items.clear();
        let texts = |name: &str| {
            let figures = all(&run);
            let boxes = figures.iter().find(|figure| figure.0 == name).unwrap().1.text_boxes();
            boxes.into_iter().map(|(text, _)| text).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(texts("artfid").matches("not measured").count(), 1);
        assert!(texts("fid_lpips").contains("Without FID or LPIPS, not drawn: strategy number 1"));
        assert!(texts("frontier").contains("Without FID or LPIPS, not drawn: strategy number 1"));
        assert!(texts("lpips").contains("No picture has an LPIPS."));
        for (_, figure) in all(&Run { results: vec![ResultRow::default()], ..Run::default() }) {
            assert!(figure.text_boxes().len() >= 2 && figure.png().is_ok());
        }
    }
}
