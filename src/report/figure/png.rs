//! A figure as pixels.

use ab_glyph::{Font, FontRef, point};
use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::text::{REGULAR, SEMIBOLD, advances, left_edge, load, scale_of};
use super::{Figure, Point, Text};

/// PNG files have twice the pixels of the page, each the mean of 2 × 2 that plotters drew.
pub const PNG_SCALE: u32 = 2;
const SUPERSAMPLE: u32 = 2;

impl Figure {
    /// The figure as the bytes of a PNG file.
    pub fn png(&self) -> Result<Vec<u8>> {
        png_bytes(&self.bitmap()?)
    }

    /// The figure as pixels, [`PNG_SCALE`] of them to a length of 1.
    pub fn bitmap(&self) -> Result<image::RgbImage> {
        let (width, height) = self.pixels(PNG_SCALE * SUPERSAMPLE);
        let mut pixels = vec![255u8; width as usize * height as usize * 3];
        {
            let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
            let fonts = (load(REGULAR)?, load(SEMIBOLD)?);
            self.draw(&area, PNG_SCALE * SUPERSAMPLE, Some(&fonts))?;
            area.present().map_err(|error| anyhow!("{error}"))?;
        }
        let large = image::RgbImage::from_raw(width, height, pixels).context("the drawing has another size")?;
        halved(&large)
    }
}

/// Each pixel is the mean of 2 × 2.
fn halved(large: &image::RgbImage) -> Result<image::RgbImage> {
    let row = 3 * large.width() as usize;
    let (width, height) = (large.width() / 2, large.height() / 2);
    let mut pixels = Vec::with_capacity(3 * width as usize * height as usize);
    for rows in large.as_raw().chunks_exact((2 * row).max(1)) {
        let (above, below) = rows.split_at(row);
        for (above, below) in above.as_chunks::<6>().0.iter().zip(below.as_chunks::<6>().0) {
            let sum = |c: usize| [above[c], above[c + 3], below[c], below[c + 3]].map(u16::from).iter().sum::<u16>();
            pixels.extend([0, 1, 2].map(|c| ((sum(c) + 2) / 4) as u8));
        }
    }
    image::RgbImage::from_raw(width, height, pixels).context("the drawing has another size")
}

/// Pixels as the bytes of a PNG file.
pub fn png_bytes(picture: &image::RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// A disc as a polygon.
pub(super) fn corners((x, y): Point, radius: f64) -> Vec<Point> {
    let angles = (0..32).map(|k| std::f64::consts::TAU * k as f64 / 32.0);
    angles.map(|a| (x + radius * a.cos(), y + radius * a.sin())).collect()
}

/// plotters drops the left bearing of each glyph and rounds each advance, which spaces letters
/// unevenly, so glyphs are placed here.
pub(super) fn draw_glyphs<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    text: &Text,
    scale: f64,
    font: &FontRef,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let size = text.size * scale;
    let places = advances(font, &text.text, size);
    let left = left_edge(text, places.last().map_or(0.0, |(_, end)| *end), scale);
    let baseline = text.at.1 * scale + size * 0.273; // half of Inter's x-height
    for (c, (start, _)) in text.text.chars().zip(places) {
        let at = point((left + start) as f32, baseline as f32);
        let glyph = font.glyph_id(c).with_scale_and_position(scale_of(font, size), at);
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let corner = outline.px_bounds().min;
        let mut covered = Vec::new();
        outline.draw(|x, y, coverage| covered.push((corner.x as i32 + x as i32, corner.y as i32 + y as i32, coverage)));
        for (x, y, coverage) in covered.into_iter().filter(|(.., coverage)| *coverage > 0.0) {
            area.draw_pixel((x, y), &text.color.mix(f64::from(coverage.min(1.0))))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halved_picture_is_that_of_the_image_library() {
        let large = image::RgbImage::from_fn(14, 6, |x, y| image::Rgb([x, y, x + y].map(|n| (n * 37 % 256) as u8)));
        assert_eq!(halved(&large).unwrap(), image::imageops::thumbnail(&large, 7, 3));
    }
}
