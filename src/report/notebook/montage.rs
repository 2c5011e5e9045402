//! Chosen pictures in one bitmap: a line for each kind of case, the pictures of a case side by side.

use std::path::Path;

use anyhow::Result;
use image::codecs::jpeg::JpegEncoder;
use image::imageops;
use rayon::prelude::*;

use crate::images;
use crate::report::figure::{Align, Figure, INK, PNG_SCALE, shorten};
use crate::report::thumbnails::open;

const SIDE: f64 = 84.0;
const LINE: f64 = SIDE + 30.0;
const QUALITY: u8 = 80;

/// A case: its title, and its files relative to the run folder.
#[derive(Debug)]
pub struct Case {
    pub title: String,
    pub files: Vec<String>,
}

/// The bitmap as JPEG, and the size at which it is to be shown. A picture that cannot be read leaves
/// its place empty.
pub fn jpeg(dir: &Path, lines: &[Vec<Case>]) -> Result<(Vec<u8>, (u32, u32))> {
    let lines: Vec<&Vec<Case>> = lines.iter().filter(|cases| !cases.is_empty()).collect();
    let most = |count: fn(&Case) -> usize| lines.iter().copied().flatten().map(count).max().unwrap_or(1).max(1) as f64;
    let case_width = most(|case| case.files.len()) * (SIDE + 4.0) + 8.0;
    let longest = lines.iter().map(|cases| cases.len()).max().unwrap_or(0).max(1);
    let (width, height) = (longest as f64 * case_width, lines.len() as f64 * LINE);
    let mut figure = Figure { width, height, alt: String::new(), shapes: Vec::new() };
    let mut places: Vec<(f64, f64, &str)> = Vec::new();
    for (line, cases) in lines.iter().enumerate() {
        for (at, case) in cases.iter().enumerate() {
            let (x, y) = (at as f64 * case_width, line as f64 * LINE);
            let title = shorten(&case.title, 11.0, case_width - 12.0);
            figure.text((x, y + 12.0), title, 11.0, INK, Align::Left);
            for (n, file) in case.files.iter().enumerate() {
                places.push((x + n as f64 * (SIDE + 4.0), y + 24.0, file));
            }
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
    let mut bytes = Vec::new();
    bitmap.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
    Ok((bytes, (width as u32, height as u32)))
}
