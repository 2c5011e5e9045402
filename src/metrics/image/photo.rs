//! What can be measured of a photo that makes it hard to describe and to draw from: darkness, blur,
//! and how much of it is a face.

use image::RgbImage;

use crate::images::faces::{Face, FaceSearch, find_face};
use crate::images::{luma, thumbnail};

/// Longest side at which photos are measured, in pixels: blur is a matter of scale.
pub const SIDE: u32 = 512;

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
    /// Where that face is.
    pub face: Option<Face>,
}

/// Measures a photo of any size.
pub fn measure(photo: &RgbImage) -> PhotoMeasures {
    let small = thumbnail(photo, SIDE);
    let gray = luma(&small);
    let (mean, contrast) = mean_and_variance(gray.iter().map(|value| f64::from(*value)));
    let (_, edges) = mean_and_variance(laplacian(&gray, small.width() as usize, small.height() as usize));
    let sharpness = (contrast > 0.0).then(|| edges / contrast);
    let search = find_face(photo).unwrap_or_else(|error| {
        tracing::warn!("faces are not looked for: {error:#}");
        FaceSearch::TooNarrow
    });
    let face = search.face();
    let face_share = (search != FaceSearch::TooNarrow).then(|| face.map_or(0.0, |face| face.share));
    PhotoMeasures { luma: mean, sharpness, face_share, face }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_not_measured() {
        assert_eq!(measure(&RgbImage::new(60, 60)).sharpness, None);
        assert_eq!(measure(&RgbImage::new(1, 700)).face_share, None);
    }
}
