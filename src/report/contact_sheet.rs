//! Pictures side by side on one sheet, with a label for each row and a caption under each picture.

use anyhow::Result;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::figure::{Align, Figure, GRID, INK, MUTED, PAPER, PNG_SCALE, wrap};
use crate::images::{self, Filter};

/// Longest side of a picture on the sheet, in pixels; smaller pictures are enlarged in whole steps.
const LONGEST: u32 = 384;
/// The cells are never narrower, so that captions have room.
const NARROWEST: u32 = 256;
/// Lengths in units of a figure ([`PNG_SCALE`] pixels).
const MARGIN: f64 = 14.0;
const GAP: f64 = 10.0;
const LABEL_WIDTH: f64 = 112.0;
const LABEL_SIZE: f64 = 11.0;
const CAPTION_SIZE: f64 = 9.5;
const LINE: f64 = 1.35;
/// Lines of one paragraph of a caption, and of a label.
const MOST_LINES: usize = 8;

/// Pictures from left to right.
#[derive(Debug, Clone, Default)]
pub struct SheetRow {
    /// At the left of the row; where no row has one, there is no room for it.
    pub label: String,
    pub cells: Vec<SheetCell>,
}

/// One place of a row.
#[derive(Debug, Clone, Default)]
pub struct SheetCell {
    /// None = a picture that could not be had: an empty frame.
    pub picture: Option<RgbImage>,
    /// Under the picture; a new line starts a new paragraph, and the first one stands out.
    pub caption: String,
}

/// Measures that all rows share, in units of a figure.
struct Layout {
    label: f64,
    cell: f64,
    columns: usize,
}

/// All rows on one white sheet. The same rows give the same pixels.
pub fn contact_sheet(rows: &[SheetRow]) -> Result<RgbImage> {
    let pictures = || rows.iter().flat_map(|row| &row.cells).filter_map(|cell| cell.picture.as_ref());
    let longest = pictures().map(enlarged_side).max().unwrap_or(0);
    let layout = Layout {
        label: if rows.iter().all(|row| row.label.is_empty()) { 0.0 } else { LABEL_WIDTH },
        cell: f64::from(longest.clamp(NARROWEST, LONGEST)) / f64::from(PNG_SCALE),
        columns: rows.iter().map(|row| row.cells.len()).max().unwrap_or(0),
    };
    let strips = rows.iter().map(|row| layout.strip(row)).collect::<Result<Vec<_>>>()?;
    let margin = pixels(MARGIN);
    let width = strips.iter().map(RgbImage::width).max().unwrap_or(0) + 2 * margin;
    let height = strips.iter().map(RgbImage::height).sum::<u32>() + 2 * margin;
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([PAPER.0, PAPER.1, PAPER.2]));
    let mut top = margin;
    for strip in strips {
        imageops::replace(&mut sheet, &strip, i64::from(margin), i64::from(top));
        top += strip.height();
    }
    Ok(sheet)
}

impl Layout {
    /// One row: the texts are drawn as a figure, then the pictures are put on it.
    fn strip(&self, row: &SheetRow) -> Result<RgbImage> {
        let fitted: Vec<Option<RgbImage>> =
            row.cells.iter().map(|cell| cell.picture.as_ref().map(|picture| self.fitted(picture))).collect();
        let tallest = fitted.iter().flatten().map(RgbImage::height).max();
        let picture_height = tallest.map_or(self.cell, |height| f64::from(height) / f64::from(PNG_SCALE));
        let captions: Vec<Vec<(String, bool)>> = row.cells.iter().map(|cell| self.lines(&cell.caption)).collect();
        let lines = captions.iter().map(Vec::len).max().unwrap_or(0);
        let caption_height = lines as f64 * CAPTION_SIZE * LINE;
        let width = self.label + self.columns as f64 * (self.cell + GAP);
        let height = picture_height + 4.0 + caption_height + GAP;
        let mut figure = Figure { width, height, alt: String::new(), shapes: Vec::new() };

        // Bold letters are a little wider than those that `wrap` measures.
        let label = wrap(&row.label, LABEL_SIZE, (self.label - GAP) * 0.92, MOST_LINES);
        for (i, line) in label.into_iter().enumerate() {
            let y = LABEL_SIZE * LINE * (i as f64 + 0.5);
            figure.bold((0.0, y), line, LABEL_SIZE, INK, Align::Left);
        }
        for (i, lines) in captions.into_iter().enumerate() {
            let left = self.left(i);
            for (k, (line, first)) in lines.into_iter().enumerate() {
                let y = picture_height + 4.0 + CAPTION_SIZE * LINE * (k as f64 + 0.5);
                figure.text((left, y), line, CAPTION_SIZE, if first { INK } else { MUTED }, Align::Left);
            }
            if fitted[i].is_none() {
                let (top, bottom) = ((left, 0.0), (left + self.cell, picture_height));
                figure.rect(top, bottom, GRID, 1.0);
            }
        }
        let mut strip = figure.bitmap()?;
        for (i, picture) in fitted.iter().enumerate() {
            if let Some(picture) = picture {
                imageops::replace(&mut strip, picture, i64::from(pixels(self.left(i))), 0);
            }
        }
        Ok(strip)
    }

    fn left(&self, column: usize) -> f64 {
        self.label + column as f64 * (self.cell + GAP)
    }

    /// The picture as large as the cell allows.
    fn fitted(&self, picture: &RgbImage) -> RgbImage {
        let side = pixels(self.cell);
        let (width, height) = picture.dimensions();
        let longest = width.max(height).max(1);
        let times = side / longest;
        if times >= 1 {
            // Each pixel stays a square: nothing is smoothed that the model drew.
            return imageops::resize(picture, width * times, height * times, FilterType::Nearest);
        }
        let scaled = |length: u32| ((u64::from(length) * u64::from(side)) as f64 / f64::from(longest)).round() as u32;
        images::resize(picture, scaled(width).max(1), scaled(height).max(1), Filter::Lanczos)
    }

    /// The lines of a caption, each with whether it is of the first paragraph.
    fn lines(&self, caption: &str) -> Vec<(String, bool)> {
        let paragraphs = caption.lines().enumerate();
        let lines = paragraphs.flat_map(|(i, paragraph)| {
            wrap(paragraph, CAPTION_SIZE, self.cell, MOST_LINES).into_iter().map(move |line| (line, i == 0))
        });
        lines.collect()
    }
}

/// The longest side that a picture would have at [`LONGEST`].
fn enlarged_side(picture: &RgbImage) -> u32 {
    let longest = picture.width().max(picture.height()).max(1);
    if longest >= LONGEST { LONGEST } else { longest * (LONGEST / longest) }
}

fn pixels(length: f64) -> u32 {
    (length * f64::from(PNG_SCALE)).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: u32, height: u32, color: [u8; 3]) -> Option<RgbImage> {
        Some(RgbImage::from_pixel(width, height, Rgb(color)))
    }

    fn share(sheet: &RgbImage, color: [u8; 3]) -> usize {
        sheet.pixels().filter(|pixel| pixel.0 == color).count()
    }

    #[test]
    fn pictures_stand_side_by_side_at_one_size() -> Result<()> {
        let cell = |picture, caption: &str| SheetCell { picture, caption: caption.into() };
        let rows = [
            SheetRow {
                label: "seed 1".into(),
                cells: vec![cell(plain(800, 400, [200, 0, 0]), "photo"), cell(plain(64, 64, [0, 0, 200]), "")],
            },
            SheetRow { label: String::new(), cells: vec![cell(None, "not drawn\nout of memory")] },
        ];
        let sheet = contact_sheet(&rows)?;
        // The large picture is 384 × 192, the small one 6 times as large, and the frame of none is square.
        assert_eq!(share(&sheet, [200, 0, 0]), 384 * 192);
        assert_eq!(share(&sheet, [0, 0, 200]), 384 * 384);
        let frame = share(&sheet, [GRID.0, GRID.1, GRID.2]);
        assert!((380 * 380..=386 * 386).contains(&frame), "{frame}");
        let label = pixels(MARGIN + LABEL_WIDTH);
        let dark = sheet.enumerate_pixels().filter(|(x, y, pixel)| *x < label && *y < 60 && pixel.0[0] < 100).count();
        assert!(dark > 50, "the label is drawn: {dark} dark pixels");
        assert_eq!(sheet, contact_sheet(&rows)?);
        Ok(())
    }

    #[test]
    fn without_labels_there_is_no_room_for_them_and_nothing_is_a_small_sheet() -> Result<()> {
        let cells = vec![SheetCell { picture: plain(100, 300, [9, 9, 9]), caption: "a ".repeat(2000) }];
        let sheet = contact_sheet(&[SheetRow { label: String::new(), cells }])?;
        assert_eq!(sheet.width(), 2 * pixels(MARGIN) + 300 + pixels(GAP));
        assert!(sheet.height() < 700, "a long caption is cut: {}", sheet.height());
        assert_eq!(contact_sheet(&[])?.dimensions(), (2 * pixels(MARGIN), 2 * pixels(MARGIN)));
        Ok(())
    }
}
