//! Brightness, as Pillow reckons it.

use image::RgbImage;

/// A byte a pixel, row by row: Pillow's `convert("L")` (ITU-R 601 in 16-bit fixed point).
pub fn luma(picture: &RgbImage) -> Vec<u8> {
    let one = |[r, g, b]: [u8; 3]| (u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16;
    picture.pixels().map(|pixel| one(pixel.0) as u8).collect()
}
