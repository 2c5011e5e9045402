//! A figure as a list of shapes, and the same list as SVG ([`svg`]) or PNG ([`png`]), through plotters; [`text`] measures and
//! breaks what is written, [`colors`] makes those of a page follow light and dark.
//!
//! Lengths are CSS pixels from the top left corner. Keeping the shapes as data lets tests ask whether
//! labels overlap, and draws both formats from one description.

mod colors;
mod png;
mod svg;
mod text;

use ab_glyph::FontRef;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

pub use self::png::{PNG_SCALE, png_bytes};
pub use self::text::{shorten, shorten_middle, text_width, wrap};

pub const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
pub const MUTED: RGBColor = RGBColor(0x63, 0x6c, 0x76);
pub const GRID: RGBColor = RGBColor(0xe1, 0xe4, 0xe8);
pub const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

pub type Point = (f64, f64);

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Align {
    Left,
    Middle,
    Right,
}

/// One line of text, its x-height centred on `at`.
#[derive(Debug, Clone)]
pub struct Text {
    pub at: Point,
    pub text: String,
    pub size: f64,
    pub color: RGBColor,
    pub align: Align,
    pub bold: bool,
}

#[derive(Debug, Clone)]
pub enum Shape {
    Line {
        points: Vec<Point>,
        color: RGBColor,
        width: f64,
        opacity: f64,
    },
    Area {
        points: Vec<Point>,
        color: RGBColor,
        opacity: f64,
    },
    Disc {
        at: Point,
        radius: f64,
        color: RGBColor,
        opacity: f64,
    },
    Text(Text),
    /// Nothing to be seen: what an SVG says of the mark or bar between two corners, where a pointer rests on it.
    Tip {
        from: Point,
        to: Point,
        text: String,
    },
    /// The same around a point; in the page a place that opens the picture of a photo under a strategy.
    Spot {
        at: Point,
        radius: f64,
        photo: String,
        strategy: String,
        text: String,
    },
}

/// A drawing and the sentence that stands for it where it cannot be seen.
#[derive(Debug, Clone)]
pub struct Figure {
    pub width: f64,
    pub height: f64,
    pub alt: String,
    pub shapes: Vec<Shape>,
}

/// Where a figure is shown: a file of its own on white, or a page whose colours it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    File,
    Page,
}

impl Figure {
    pub fn line(&mut self, points: impl Into<Vec<Point>>, color: RGBColor, width: f64) {
        self.shapes.push(Shape::Line { points: points.into(), color, width, opacity: 1.0 });
    }

    /// A thin, pale line: an interval.
    pub fn thin(&mut self, points: impl Into<Vec<Point>>, color: RGBColor) {
        self.shapes.push(Shape::Line { points: points.into(), color, width: 1.0, opacity: 0.35 });
    }

    pub fn area(&mut self, points: impl Into<Vec<Point>>, color: RGBColor, opacity: f64) {
        self.shapes.push(Shape::Area { points: points.into(), color, opacity });
    }

    pub fn rect(&mut self, (x0, y0): Point, (x1, y1): Point, color: RGBColor, opacity: f64) {
        self.area([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color, opacity);
    }

    pub fn disc(&mut self, at: Point, radius: f64, color: RGBColor, opacity: f64) {
        self.shapes.push(Shape::Disc { at, radius, color, opacity });
    }

    /// What is said of the mark or bar between two corners: its name, value and interval.
    pub fn tip(&mut self, (x0, y0): Point, (x1, y1): Point, text: impl Into<String>) {
        let (from, to) = ((x0.min(x1), y0.min(y1)), (x0.max(x1), y0.max(y1)));
        self.shapes.push(Shape::Tip { from, to, text: text.into() });
    }

    pub fn text(&mut self, at: Point, text: impl Into<String>, size: f64, color: RGBColor, align: Align) {
        self.shapes.push(Shape::Text(Text { at, text: text.into(), size, color, align, bold: false }));
    }

    /// Text with paper below it: no line that is drawn already runs through it.
    pub fn text_on_paper(&mut self, at: Point, text: impl Into<String>, size: f64, color: RGBColor, align: Align) {
        let text = Text { at, text: text.into(), size, color, align, bold: false };
        let width = text_width(&text.text, size, false);
        let left = text::left_edge(&text, width, 1.0);
        self.rect((left - 2.0, at.1 - size * 0.7), (left + width + 2.0, at.1 + size * 0.7), PAPER, 1.0);
        self.shapes.push(Shape::Text(text));
    }

    pub fn bold(&mut self, at: Point, text: impl Into<String>, size: f64, color: RGBColor, align: Align) {
        self.shapes.push(Shape::Text(Text { at, text: text.into(), size, color, align, bold: true }));
    }

    fn pixels(&self, scale: u32) -> (u32, u32) {
        (self.width.ceil() as u32 * scale, self.height.ceil() as u32 * scale)
    }

    /// Draws with plotters; text through `fonts` where the backend has no text of its own.
    fn draw<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        scale: u32,
        fonts: Option<&(FontRef, FontRef)>,
    ) -> Result<()> {
        let scale = f64::from(scale);
        let to = |p: &Point| ((p.0 * scale).round() as i32, (p.1 * scale).round() as i32);
        for shape in &self.shapes {
            let drawn = match shape {
                Shape::Line { points, color, width, opacity } => {
                    let stroke = color.mix(*opacity).stroke_width((width * scale).round().max(1.0) as u32);
                    area.draw(&PathElement::new(points.iter().map(to).collect::<Vec<_>>(), stroke))
                }
                Shape::Area { points, color, opacity } => {
                    area.draw(&Polygon::new(points.iter().map(to).collect::<Vec<_>>(), color.mix(*opacity).filled()))
                }
                Shape::Disc { at, radius, color, opacity } => {
                    let fill = color.mix(*opacity).filled();
                    match fonts {
                        // plotters' own disc has no smooth edge in pixels.
                        Some(_) => area
                            .draw(&Polygon::new(png::corners(*at, *radius).iter().map(to).collect::<Vec<_>>(), fill)),
                        None => area.draw(&Circle::new(to(at), (radius * scale).round() as u32, fill)),
                    }
                }
                Shape::Spot { .. } | Shape::Tip { .. } => Ok(()),
                Shape::Text(text) => match fonts {
                    Some((regular, bold)) => {
                        png::draw_glyphs(area, text, scale, if text.bold { bold } else { regular })
                    }
                    None => area.draw(&svg::svg_text(text, scale, to(&text.at))),
                },
            };
            drawn.map_err(|error| anyhow!("{error}"))?;
        }
        Ok(())
    }

    /// Left, top, right and bottom of every text, as measured with the embedded font.
    #[cfg(test)]
    pub fn text_boxes(&self) -> Vec<(String, [f64; 4])> {
        let texts = self.shapes.iter().filter_map(|shape| match shape {
            Shape::Text(text) => Some(text),
            _ => None,
        });
        let boxed = texts.map(|t| {
            let width = text_width(&t.text, t.size, t.bold);
            let left = text::left_edge(t, width, 1.0);
            (t.text.clone(), [left, t.at.1 - t.size * 0.5, left + width, t.at.1 + t.size * 0.5])
        });
        boxed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_hold_the_drawing() -> Result<()> {
        let mut figure = Figure { width: 40.0, height: 20.0, alt: "a < b".into(), shapes: Vec::new() };
        figure.rect((10.0, 5.0), (20.0, 15.0), RGBColor(200, 0, 0), 1.0);
        figure.text((30.0, 10.0), "<i>", 8.0, INK, Align::Middle);
        let svg = figure.svg(Place::File)?;
        assert!(
            svg.contains("aria-label=\"a &lt; b\"") && svg.contains("&lt;i&gt;") && svg.contains("#C80000"),
            "{svg}"
        );
        assert!(figure.svg(Place::Page)?.contains("var(--ink)"));
        figure.tip((20.0, 15.0), (10.0, 5.0), "a & b: 1.5 [1, 2]");
        for place in [Place::File, Place::Page] {
            let told = "<rect x=\"80\" y=\"40\" width=\"80\" height=\"80\"><title>a &amp; b: 1.5 [1, 2]</title></rect>";
            assert!(figure.svg(place)?.contains(told));
        }
        let png = image::load_from_memory(&figure.png()?)?.to_rgb8();
        assert_eq!(
            (png.dimensions(), png.get_pixel(30, 20).0, png.get_pixel(5, 5).0),
            ((80, 40), [200, 0, 0], [255; 3])
        );
        let inked = png.enumerate_pixels().filter(|(x, _, pixel)| *x > 45 && pixel.0[0] < 128).count();
        assert!((5..200).contains(&inked), "{inked} dark pixels of text");
        Ok(())
    }
}
