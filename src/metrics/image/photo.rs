//! What can be measured of a photo that makes it hard to describe and to draw from: darkness, blur,
//! and how much of it is a face.
//!
//! Faces are found by SeetaFace's funnel-structured cascade (Wu et al., "Funnel-structured cascade for
//! multi-view face detection with alignment-awareness", Neurocomputing 2017, <https://arxiv.org/abs/1609.07304>)
//! with the published frontal model. It gives a box and no angles, so how far a head is turned is not
//! measured: faces from the front to half profile are found, one turned further is one that is *not*
//! found, like hidden, tiny and most drawn ones.

use std::cell::RefCell;

use anyhow::{Context, Result};
use image::RgbImage;
use rustface::{Detector, ImageData};

use crate::images::{Filter, resize, thumbnail};

static FRONTAL: &[u8] = include_bytes!("../../../assets/faces/seeta_fd_frontal_v1.0.bin");

/// Longest side at which photos are measured, in pixels: blur is a matter of scale.
pub const SIDE: u32 = 512;
/// Side of the smallest face that the detector can find, in pixels.
const SMALLEST_FACE: u32 = 40;

/// The measures of one photo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhotoMeasures {
    /// Mean luma (ITU-R 601, as Pillow's "L"), 0 to 255.
    pub luma: f64,
    /// Variance of the Laplacian of the luma, OpenCV's `Laplacian(gray, CV_64F).var()` (Pech-Pacheco et al.,
    /// "Diatom autofocusing in brightfield microscopy", ICPR 2000), over the variance of the luma, so that a dark or
    /// pale photo does not pass for a blurred one; of the photo shrunk to [`SIDE`]. None where all pixels are alike.
    pub sharpness: Option<f64>,
    /// Area of the largest face over that of the photo, 0 where none is found; None where the photo is too
    /// narrow to look.
    pub face_share: Option<f64>,
}

/// Measures a photo of any size.
pub fn measure(photo: &RgbImage) -> PhotoMeasures {
    let small = thumbnail(photo, SIDE);
    let gray = luma(&small);
    let (mean, contrast) = mean_and_variance(gray.iter().map(|value| f64::from(*value)));
    let (_, edges) = mean_and_variance(laplacian(&gray, small.width() as usize, small.height() as usize));
    let sharpness = (contrast > 0.0).then(|| edges / contrast);
    let face_share = face_share(photo).unwrap_or_else(|error| {
        tracing::warn!("faces are not looked for: {error:#}");
        None
    });
    PhotoMeasures { luma: mean, sharpness, face_share }
}

/// Pillow's `convert("L")`: 16-bit fixed point.
fn luma(picture: &RgbImage) -> Vec<u8> {
    let one = |[r, g, b]: [u8; 3]| (u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16;
    picture.pixels().map(|pixel| one(pixel.0) as u8).collect()
}

fn mean_and_variance(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (sum, squares, count) =
        values.fold((0.0, 0.0, 0.0), |(s, q, n), value| (s + value, q + value * value, n + 1.0));
    (sum / count, squares / count - (sum / count).powi(2))
}

/// The four neighbours less four times the pixel, mirrored at the edges without repeating them.
fn laplacian(gray: &[u8], width: usize, height: usize) -> impl Iterator<Item = f64> {
    let mirrored = |at: usize, step: isize, size: usize| match at as isize + step {
        _ if size == 1 => 0,
        -1 => 1,
        next if next as usize == size => size - 2,
        next => next as usize,
    };
    (0..width * height).map(move |at| {
        let (x, y) = (at % width, at / width);
        let value = |x: usize, y: usize| i32::from(gray[y * width + x]);
        let across = value(mirrored(x, -1, width), y) + value(mirrored(x, 1, width), y);
        let down = value(x, mirrored(y, -1, height)) + value(x, mirrored(y, 1, height));
        f64::from(across + down - 4 * value(x, y))
    })
}

thread_local! {
    /// A detector keeps buffers, so each thread has its own.
    static DETECTOR: RefCell<Option<Box<dyn Detector>>> = const { RefCell::new(None) };
}

/// Looks at every photo with [`SIDE`] as its longest side, so that a share means the same for all.
fn face_share(photo: &RgbImage) -> Result<Option<f64>> {
    let scale = f64::from(SIDE) / f64::from(photo.width().max(photo.height()));
    let side = |length: u32| (f64::from(length) * scale).round().max(1.0) as u32;
    let (width, height) = (side(photo.width()), side(photo.height()));
    // The detector's pyramid starts and ends with a window of this size.
    if width.min(height) <= SMALLEST_FACE {
        return Ok(None);
    }
    let gray = luma(&resize(photo, width, height, Filter::Bicubic));
    DETECTOR.with_borrow_mut(|slot| {
        let mut detector = match slot.take() {
            Some(detector) => detector,
            None => {
                let model = rustface::read_model(FRONTAL).context("the embedded face detector is damaged")?;
                rustface::create_detector_with_model(model)
            }
        };
        let faces = detector.detect(&ImageData::new(&gray, width, height));
        *slot = Some(detector);
        let inside = |from: i32, length: u32, most: u32| {
            let end = (i64::from(from) + i64::from(length)).min(i64::from(most));
            (end - i64::from(from).max(0)).max(0) as f64
        };
        let area = faces.iter().map(|face| {
            let place = face.bbox();
            inside(place.x(), place.width(), width) * inside(place.y(), place.height(), height)
        });
        Ok(Some(area.fold(0.0, f64::max) / (f64::from(width) * f64::from(height))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shape_of_photo_is_too_much() {
        for (width, height) in [(1, 1), (1, 700), (512, 40), (512, 41), (40, 512), (41, 512), (3000, 250), (47, 512)] {
            let photo =
                RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x ^ y) as u8]));
            let measures = measure(&photo);
            let wide_enough = width.min(height) * SIDE > SMALLEST_FACE * width.max(height);
            assert_eq!(measures.face_share.is_some(), wide_enough, "{width} x {height}");
        }
        assert_eq!(measure(&RgbImage::new(60, 60)).sharpness, None);
    }

    /// The detector's windows at every length of the shorter side.
    #[test]
    fn every_width_is_looked_at() {
        for width in 41..=512 {
            let gray = vec![(width % 251) as u8; (width * 41) as usize];
            let model = rustface::read_model(FRONTAL).unwrap();
            rustface::create_detector_with_model(model).detect(&ImageData::new(&gray, width, 41));
        }
    }
}
