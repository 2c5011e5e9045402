//! The best and worst pictures of a strategy in one bitmap, each beside its photo.

use std::path::Path;

use anyhow::Result;
use image::imageops;
use rayon::prelude::*;

use crate::images;
use crate::report::figure::{Align, Figure, INK, PNG_SCALE, png_bytes, shorten};
use crate::report::gallery::{CASES, Choice};
use crate::report::rows::ItemRow;
use crate::report::thumbnails::open;

const SIDE: f64 = 84.0;
const PAIR: f64 = 2.0 * SIDE + 16.0;
const LINE: f64 = SIDE + 30.0;

/// The bitmap as PNG, and the size at which it is to be shown. A picture that cannot be read leaves
/// its place empty.
pub fn png(dir: &Path, choice: &Choice) -> Result<(Vec<u8>, (u32, u32))> {
    let lines = [("best", &choice.best), ("worst", &choice.worst)];
    let (width, height) = (CASES as f64 * PAIR, 2.0 * LINE);
    let mut figure = Figure { width, height, alt: String::new(), shapes: Vec::new() };
    let mut places: Vec<(f64, f64, &str)> = Vec::new();
    for (line, (name, items)) in lines.iter().enumerate() {
        for (at, item) in items.iter().enumerate() {
            let item: &ItemRow = item;
            let (x, y) = (at as f64 * PAIR, line as f64 * LINE);
            let title = shorten(&format!("{name} {}: {}", at + 1, item.id), 11.0, PAIR - 12.0);
            figure.text((x, y + 12.0), title, 11.0, INK, Align::Left);
            places.push((x, y + 24.0, &item.photo));
            places.push((x + SIDE + 4.0, y + 24.0, &item.image));
        }
    }
    let side = SIDE as u32 * PNG_SCALE;
    let load = |file: &str| Some(images::thumbnail(&open(dir, file).ok()?, side));
    let pictures: Vec<_> = places.par_iter().map(|(.., file)| load(file)).collect();
    let mut bitmap = figure.bitmap()?;
    for ((x, y, _), picture) in places.iter().zip(pictures) {
        let Some(picture) = picture else { continue };
        let scale = f64::from(PNG_SCALE);
        imageops::replace(&mut bitmap, &picture, (x * scale) as i64, (y * scale) as i64);
    }
    Ok((png_bytes(&bitmap)?, (width as u32, height as u32)))
}
