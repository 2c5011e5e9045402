//! Photos on disk, as users have them.

use std::fs;
use std::path::Path;

use anyhow::Result;
use image::{Rgb, RgbImage};
use rayon::prelude::*;

/// Width and height, and how many different ones: the rest are copies.
const SIZE: (u32, u32) = (640, 480);
const DIFFERENT: usize = 100;

/// So many JPEGs of 640×480, the same every time.
pub fn write(folder: &Path, count: usize) -> Result<()> {
    let (width, height) = SIZE;
    let file = |at: usize| folder.join(format!("{at:06}.jpg"));
    let draw = |at: usize| {
        let shift = 37 * at as u32;
        let pixel = |x: u32, y: u32| Rgb([x + shift, y + shift, x * y / 64].map(|v| (v % 256) as u8));
        RgbImage::from_fn(width, height, pixel).save(file(at))
    };
    (0..count.min(DIFFERENT)).into_par_iter().try_for_each(draw)?;
    (DIFFERENT..count).into_par_iter().try_for_each(|at| fs::copy(file(at % DIFFERENT), file(at)).map(drop))?;
    Ok(())
}
