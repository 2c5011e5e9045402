//! The largest face in a photo.
//!
//! Faces are found by SeetaFace's funnel-structured cascade (Wu et al., "Funnel-structured cascade for
//! multi-view face detection with alignment-awareness", Neurocomputing 2017, <https://arxiv.org/abs/1609.07304>)
//! with the published frontal model. It gives a box and no angles, so how far a head is turned is not
//! known: faces from the front to half profile are found, one turned further is one that is *not*
//! found, like hidden, tiny and most drawn ones.

use std::cell::RefCell;

use anyhow::{Context, Result};
use image::RgbImage;
use rustface::{Detector, ImageData};

use super::luma::luma;
use super::resize::{Filter, resize};

static FRONTAL: &[u8] = include_bytes!("../../assets/faces/seeta_fd_frontal_v1.0.bin");

/// Longest side at which faces are looked for, in pixels, so that a share means the same for all photos.
const SIDE: u32 = 512;
/// Side of the smallest face that the detector can find, in pixels.
const SMALLEST_FACE: u32 = 40;

/// The part of a face's box that lies inside its photo, in the photo's pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Face {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    /// Its area over that of the photo.
    pub share: f64,
}

impl Face {
    pub(super) fn center(&self) -> (f64, f64) {
        (self.left + self.width / 2.0, self.top + self.height / 2.0)
    }

    /// The same face in a photo of the same shape that is so many times as large.
    pub fn scaled(self, times: f64) -> Self {
        let Self { left, top, width, height, share } = self;
        Self { left: left * times, top: top * times, width: width * times, height: height * times, share }
    }
}

/// What looking for faces in a photo came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FaceSearch {
    /// The photo is too narrow to look.
    TooNarrow,
    Nothing,
    /// The largest one.
    Found(Face),
}

impl FaceSearch {
    pub fn face(self) -> Option<Face> {
        match self {
            Self::Found(face) => Some(face),
            Self::TooNarrow | Self::Nothing => None,
        }
    }
}

thread_local! {
    /// A detector keeps buffers, so each thread has its own.
    static DETECTOR: RefCell<Option<Box<dyn Detector>>> = const { RefCell::new(None) };
}

/// Looks for faces in a photo of any size, with `SIDE` as its longest side.
pub fn find_face(photo: &RgbImage) -> Result<FaceSearch> {
    let scale = f64::from(SIDE) / f64::from(photo.width().max(photo.height()));
    let side = |length: u32| (f64::from(length) * scale).round().max(1.0) as u32;
    let (width, height) = (side(photo.width()), side(photo.height()));
    // The detector's pyramid starts and ends with a window of this size.
    if width.min(height) <= SMALLEST_FACE {
        return Ok(FaceSearch::TooNarrow);
    }
    let gray = luma(&resize(photo, width, height, Filter::Bicubic));
    let faces = DETECTOR.with_borrow_mut(|slot| {
        let mut detector = match slot.take() {
            Some(detector) => detector,
            None => {
                let model = rustface::read_model(FRONTAL).context("the embedded face detector is damaged")?;
                rustface::create_detector_with_model(model)
            }
        };
        let faces = detector.detect(&ImageData::new(&gray, width, height));
        *slot = Some(detector);
        anyhow::Ok(faces)
    })?;
    // Start and length of what lies inside.
    let inside = |from: i32, length: u32, most: u32| {
        let (start, end) = (i64::from(from).max(0), (i64::from(from) + i64::from(length)).min(i64::from(most)));
        (start as f64, (end - start).max(0) as f64)
    };
    let (across, along) = (f64::from(photo.width()) / f64::from(width), f64::from(photo.height()) / f64::from(height));
    let whole = f64::from(width) * f64::from(height);
    let mut largest = FaceSearch::Nothing;
    let mut largest_share = 0.0;
    for face in faces {
        let ((left, w), (top, h)) = (
            inside(face.bbox().x(), face.bbox().width(), width),
            inside(face.bbox().y(), face.bbox().height(), height),
        );
        let share = w * h / whole;
        if share > largest_share {
            let (left, top, width, height) = (left * across, top * along, w * across, h * along);
            largest = FaceSearch::Found(Face { left, top, width, height, share });
            largest_share = share;
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shape_of_photo_is_too_much() {
        for (width, height) in [(1, 1), (1, 700), (512, 40), (512, 41), (40, 512), (41, 512), (3000, 250), (47, 512)] {
            let photo =
                RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x ^ y) as u8]));
            let too_narrow = width.min(height) * SIDE <= SMALLEST_FACE * width.max(height);
            assert_eq!(find_face(&photo).unwrap() == FaceSearch::TooNarrow, too_narrow, "{width} x {height}");
        }
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
