//! A figure as SVG.

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::colors::page_colors;
use super::{Align, Figure, PAPER, Place, Shape, Text};

const FAMILY: &str = "Inter, Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// plotters takes whole numbers only: SVG is drawn this many times larger and scaled by its viewBox.
const SVG_SCALE: u32 = 8;

impl Figure {
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
}

pub(super) fn svg_text<'a>(
    text: &'a Text,
    scale: f64,
    at: (i32, i32),
) -> plotters::element::Text<'a, (i32, i32), &'a str> {
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
