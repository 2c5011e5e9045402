//! Text measured in the embedded font, broken into lines, and shortened.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use anyhow::{Context, Result};

use super::{Align, Text};

/// The font that PNG files are drawn with and all text is measured with (SVG files only name it).
pub(super) static REGULAR: &[u8] = include_bytes!("../../../assets/fonts/Inter-Regular.otf");
pub(super) static SEMIBOLD: &[u8] = include_bytes!("../../../assets/fonts/Inter-SemiBold.otf");

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

pub(super) fn load(bytes: &'static [u8]) -> Result<FontRef<'static>> {
    FontRef::try_from_slice(bytes).context("the embedded font is damaged")
}

/// In ab_glyph a scale is ascent to descent; a text size is the em.
pub(super) fn scale_of(font: &FontRef, size: f64) -> PxScale {
    PxScale::from((size * f64::from(font.height_unscaled() / font.units_per_em().unwrap_or(1000.0))) as f32)
}

/// Where each character starts and ends.
pub(super) fn advances(font: &FontRef, text: &str, size: f64) -> Vec<(f64, f64)> {
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

pub(super) fn left_edge(text: &Text, width: f64, scale: f64) -> f64 {
    text.at.0 * scale
        - match text.align {
            Align::Left => 0.0,
            Align::Middle => width / 2.0,
            Align::Right => width,
        }
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
}
