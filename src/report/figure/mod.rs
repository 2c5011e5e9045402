//! A figure as a list of shapes, and the same list as SVG or PNG (through plotters).
//!
//! Lengths are CSS pixels from the top left corner. Keeping the shapes as data lets tests ask whether
//! labels overlap, and draws both formats from one description.

use std::collections::BTreeMap;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The font that PNG files are drawn with and all text is measured with (SVG files only name it).
static REGULAR: &[u8] = include_bytes!("../../assets/fonts/Inter-Regular.otf");
static SEMIBOLD: &[u8] = include_bytes!("../../assets/fonts/Inter-SemiBold.otf");
const FAMILY: &str = "Inter, Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// plotters takes whole numbers only: SVG is drawn this many times larger and scaled by its viewBox.
const SVG_SCALE: u32 = 8;
/// PNG files have twice the pixels of the page, each the mean of 2 × 2 that plotters drew.
pub const PNG_SCALE: u32 = 2;
const SUPERSAMPLE: u32 = 2;

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

    pub fn bold(&mut self, at: Point, text: impl Into<String>, size: f64, color: RGBColor, align: Align) {
        self.shapes.push(Shape::Text(Text { at, text: text.into(), size, color, align, bold: true }));
    }

    /// The figure as an SVG element.
    pub fn svg(&self, place: Place) -> Result<String> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, self.pixels(SVG_SCALE)).into_drawing_area();
            if place == Place::File {
                area.fill(&PAPER).map_err(|error| anyhow!("{error}"))?;
            }
            self.draw(&area, SVG_SCALE, None)?;
            area.present().map_err(|error| anyhow!("{error}"))?;
        }
        let (width, height) = self.pixels(SVG_SCALE);
        let body = svg.split_once('>').context("plotters wrote no SVG element")?.1;
        let head = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" aria-label=\"{}\">",
            self.width,
            self.height,
            escaped(&self.alt)
        );
        let body = match place {
            Place::File => body.to_string(),
            Place::Page => page_colors(body),
        };
        let svg = head + &self.with_tips(body, place);
        // XML has no place for control characters, escaped or not.
        Ok(svg.replace(|c: char| c.is_control() && !"\n\t".contains(c), "\u{fffd}"))
    }

    /// The SVG with its tips and spots above all else; those that open pictures are the uppermost.
    fn with_tips(&self, svg: String, place: Place) -> String {
        const SCALE: f64 = SVG_SCALE as f64;
        let tip = |shape: &Shape| {
            let Shape::Tip { from, to, text } = shape else { return None };
            Some(format!(
                "<rect x=\"{:.0}\" y=\"{:.0}\" width=\"{:.0}\" height=\"{:.0}\"><title>{}</title></rect>",
                from.0 * SCALE,
                from.1 * SCALE,
                (to.0 - from.0) * SCALE,
                (to.1 - from.1) * SCALE,
                escaped(text)
            ))
        };
        let spot = |shape: &Shape| {
            let Shape::Spot { at, radius, photo, strategy, text } = shape else { return None };
            let opens = match place {
                Place::File => String::new(),
                Place::Page => format!(
                    " class=\"spot\" data-spot-photo=\"{}\" data-spot-strategy=\"{}\"",
                    escaped(photo),
                    escaped(strategy)
                ),
            };
            Some(format!(
                "<circle{opens} cx=\"{:.0}\" cy=\"{:.0}\" r=\"{:.0}\"><title>{}</title></circle>",
                at.0 * SCALE,
                at.1 * SCALE,
                radius * SCALE,
                escaped(text)
            ))
        };
        let tips: String = self.shapes.iter().filter_map(tip).chain(self.shapes.iter().filter_map(spot)).collect();
        match svg.rsplit_once("</svg>") {
            Some((body, end)) if !tips.is_empty() => {
                format!("{body}<g fill=\"none\" pointer-events=\"all\">{tips}</g></svg>{end}")
            }
            _ => svg,
        }
    }

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
        Ok(image::imageops::thumbnail(&large, width / SUPERSAMPLE, height / SUPERSAMPLE))
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
                        Some(_) => {
                            area.draw(&Polygon::new(corners(*at, *radius).iter().map(to).collect::<Vec<_>>(), fill))
                        }
                        None => area.draw(&Circle::new(to(at), (radius * scale).round() as u32, fill)),
                    }
                }
                Shape::Spot { .. } | Shape::Tip { .. } => Ok(()),
                Shape::Text(text) => match fonts {
                    Some((regular, bold)) => draw_glyphs(area, text, scale, if text.bold { bold } else { regular }),
                    None => area.draw(&svg_text(text, scale, to(&text.at))),
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
            let left = left_edge(t, width, 1.0);
            (t.text.clone(), [left, t.at.1 - t.size * 0.5, left + width, t.at.1 + t.size * 0.5])
        });
        boxed.collect()
    }
}

/// A disc as a polygon.
fn corners((x, y): Point, radius: f64) -> Vec<Point> {
    let angles = (0..32).map(|k| std::f64::consts::TAU * k as f64 / 32.0);
    angles.map(|a| (x + radius * a.cos(), y + radius * a.sin())).collect()
}

/// Pixels as the bytes of a PNG file.
pub fn png_bytes(picture: &image::RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Width of one line of text.
pub fn text_width(text: &str, size: f64, bold: bool) -> f64 {
    let Ok(font) = load(if bold { SEMIBOLD } else { REGULAR }) else { return 0.0 };
    advances(&font, text, size).last().map_or(0.0, |(_, end)| *end)
}

/// Breaks text into at most `lines` lines of at most `width`; what does not fit ends in an ellipsis.
pub fn wrap(text: &str, size: f64, width: f64, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let longer = wrapped.last().map(|line| format!("{line} {word}"));
        match (longer, wrapped.last_mut()) {
            (Some(longer), Some(line)) if text_width(&longer, size, false) <= width => *line = longer,
            _ => wrapped.push(word.to_string()),
        }
    }
    if wrapped.len() > lines {
        let rest = wrapped.split_off(lines.saturating_sub(1)).join(" ");
        wrapped.push(rest);
    }
    wrapped.iter().map(|line| shorten(line, size, width)).collect()
}

/// The text, or as much of its beginning as fits `width`, with an ellipsis.
pub fn shorten(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size, false) <= width {
        return text.to_string();
    }
    let Ok(font) = load(REGULAR) else { return text.to_string() };
    let room = width - text_width("…", size, false);
    let kept = advances(&font, text, size).iter().filter(|(_, end)| *end <= room).count();
    let kept: String = text.chars().take(kept).collect();
    format!("{}…", kept.trim_end())
}

/// The text, or its beginning and end where all of it does not fit `width`: names of strategies differ at their ends.
pub fn shorten_middle(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size, false) <= width {
        return text.to_string();
    }
    let all: Vec<char> = text.chars().collect();
    let cut = |kept: usize| {
        let (head, tail) = (&all[..kept * 2 / 5], &all[all.len() - (kept - kept * 2 / 5)..]);
        head.iter().chain(&['…']).chain(tail).collect::<String>()
    };
    let fits = (0..all.len()).rev().map(cut).find(|cut| text_width(cut, size, false) <= width);
    fits.unwrap_or_else(|| "…".to_string())
}

fn load(bytes: &'static [u8]) -> Result<FontRef<'static>> {
    FontRef::try_from_slice(bytes).context("the embedded font is damaged")
}

/// In ab_glyph a scale is ascent to descent; a text size is the em.
fn scale_of(font: &FontRef, size: f64) -> PxScale {
    PxScale::from((size * f64::from(font.height_unscaled() / font.units_per_em().unwrap_or(1000.0))) as f32)
}

/// Where each character starts and ends.
fn advances(font: &FontRef, text: &str, size: f64) -> Vec<(f64, f64)> {
    let scaled = font.as_scaled(scale_of(font, size));
    let mut x = 0.0;
    let mut previous = None;
    let mut step = |c: char| {
        let glyph = scaled.glyph_id(c);
        let start = x + previous.map_or(0.0, |p| f64::from(scaled.kern(p, glyph)));
        x = start + f64::from(scaled.h_advance(glyph));
        previous = Some(glyph);
        (start, x)
    };
    text.chars().map(&mut step).collect()
}

fn left_edge(text: &Text, width: f64, scale: f64) -> f64 {
    text.at.0 * scale
        - match text.align {
            Align::Left => 0.0,
            Align::Middle => width / 2.0,
            Align::Right => width,
        }
}

/// plotters drops the left bearing of each glyph and rounds each advance, which spaces letters
/// unevenly, so glyphs are placed here.
fn draw_glyphs<DB: DrawingBackend>(
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

fn svg_text<'a>(text: &'a Text, scale: f64, at: (i32, i32)) -> plotters::element::Text<'a, (i32, i32), &'a str> {
    let side = match text.align {
        Align::Left => HPos::Left,
        Align::Middle => HPos::Center,
        Align::Right => HPos::Right,
    };
    let style = if text.bold { FontStyle::Bold } else { FontStyle::Normal };
    // plotters' SVG backend divides the size by 1.24.
    let font = FontDesc::new(FontFamily::Name(FAMILY), text.size * scale * 1.24, style);
    let style = TextStyle::from(font).color(&text.color).pos(Pos::new(side, VPos::Center));
    plotters::element::Text::new(text.text.as_str(), at, style)
}

/// Inside the page the neutral colours are the page's own, so that the figure follows light and dark; of the others
/// those that are too dark to be seen on dark paper are lighter there.
fn page_colors(svg: &str) -> String {
    let hex = |c: RGBColor| format!("\"#{:02X}{:02X}{:02X}\"", c.0, c.1, c.2);
    let svg = [(INK, "--ink"), (MUTED, "--muted"), (GRID, "--grid"), (PAPER, "--paper")]
        .into_iter()
        .fold(svg.to_string(), |svg, (color, name)| svg.replace(&hex(color), &format!("\"var({name})\"")));
    let (mut text, mut dark, mut rest) = (String::new(), BTreeMap::new(), svg.as_str());
    while let Some((before, after)) = rest.split_once("=\"#") {
        text += before;
        let color = after.get(..6).filter(|_| after[6..].starts_with('"')).and_then(of_hex);
        match color {
            Some(color) if lightened(color) != color => {
                let name = &after[..6];
                text += &format!("=\"var(--c{name},#{name})");
                dark.insert(name, lightened(color));
                rest = &after[6..];
            }
            _ => {
                text += "=\"#";
                rest = after;
            }
        }
    }
    text += rest;
    let rules: String =
        dark.iter().map(|(name, RGBColor(r, g, b))| format!("--c{name}:#{r:02x}{g:02x}{b:02x};")).collect();
    if rules.is_empty() {
        return text;
    }
    format!("<style>@media screen and (prefers-color-scheme:dark){{svg{{{rules}}}}}</style>{text}")
}

fn of_hex(text: &str) -> Option<RGBColor> {
    let part = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    Some(RGBColor(part(0)?, part(2)?, part(4)?))
}

/// The colour as it can be told from dark paper: with as much white as gives a contrast of 4 (WCAG's ratio).
fn lightened(color: RGBColor) -> RGBColor {
    const DARK_PAPER: RGBColor = RGBColor(0x15, 0x19, 0x1e);
    let with_white = |part: u32| {
        let mix = |c: u8| (u32::from(c) + (255 - u32::from(c)) * part / 20) as u8;
        RGBColor(mix(color.0), mix(color.1), mix(color.2))
    };
    let contrast = |c: RGBColor| (luminance(c) + 0.05) / (luminance(DARK_PAPER) + 0.05);
    (0..20).map(with_white).find(|mixed| contrast(*mixed) >= 4.0).unwrap_or(color)
}

/// Relative luminance, as in <https://www.w3.org/TR/WCAG22/#dfn-relative-luminance>.
fn luminance(RGBColor(r, g, b): RGBColor) -> f64 {
    let linear = |c: u8| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_and_shortened_to_the_width() {
        let long = "a watercolour painting with soft edges, wet paper and a great deal of light";
        let lines = wrap(long, 11.0, 160.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| text_width(line, 11.0, false) <= 160.0), "{lines:?}");
        assert!(lines[1].ends_with('…') && long.starts_with(&lines[0]));
        assert_eq!(wrap(long, 11.0, 9999.0, 2), [long]);
        assert!(text_width(&shorten(&"x".repeat(500), 11.0, 80.0), 11.0, false) <= 80.0);
        assert!(wrap("", 11.0, 100.0, 2).is_empty());
        let name = "peanuts_detailed__appearance__i2i0.4__ddim";
        let short = shorten_middle(name, 13.0, 170.0);
        assert!(short.starts_with("peanuts") && short.ends_with("__ddim") && short.contains('…'), "{short}");
        assert!(text_width(&short, 13.0, false) <= 170.0);
        assert_eq!(shorten_middle(name, 13.0, 900.0), name);
        assert_eq!(shorten_middle(name, 13.0, 0.0), "…");
    }

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
