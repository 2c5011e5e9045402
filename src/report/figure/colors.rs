//! The colours of a figure inside a page.

use std::collections::BTreeMap;

use plotters::style::RGBColor;

use super::{GRID, INK, MUTED, PAPER};

/// Inside the page the neutral colours are the page's own, so that the figure follows light and dark; of the others
/// those that are too dark to be seen on dark paper are lighter there.
pub(super) fn page_colors(svg: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plots::color;

    /// Dots are painted with an opacity of 0.9: they keep the contrast of 3 that WCAG asks of graphics.
    #[test]
    fn every_colour_can_be_told_from_dark_paper() {
        const PAPER: RGBColor = RGBColor(0x15, 0x19, 0x1e);
        for position in 0..21 {
            let RGBColor(r, g, b) = lightened(color(position));
            let over = |c: u8, paper: u8| (f64::from(c) * 0.9 + f64::from(paper) * 0.1) as u8;
            let seen = RGBColor(over(r, PAPER.0), over(g, PAPER.1), over(b, PAPER.2));
            let contrast = (luminance(seen) + 0.05) / (luminance(PAPER) + 0.05);
            assert!(contrast >= 3.0, "{position}: {contrast}");
        }
        let svg = page_colors("<circle fill=\"#0072B2\"/>");
        assert!(svg.contains("prefers-color-scheme:dark") && svg.contains("var(--c0072B2,#0072B2)"), "{svg}");
    }
}
