//! Pillow's resize, bit for bit: two passes (across and down), each a convolution whose kernel
//! widens when shrinking (antialiasing), in 22-bit fixed point, rounded to a byte after each pass.
//!
//! Source: Pillow `src/libImaging/Resample.c`, and `Geometry.c` for [`Filter::Nearest`]. The order of
//! the passes is that of Pillow 13; older ones always go across first.

use std::ops::Range;

use image::{RgbImage, imageops};
use rayon::prelude::*;

/// Pillow's `Image.Resampling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    Nearest,
    Box,
    Bilinear,
    Bicubic,
    Lanczos,
}

impl Filter {
    /// The filter of a `resample` number in a preprocessor_config.json.
    pub fn from_pillow(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            _ => return None,
        })
    }

    /// Half the width of the kernel, in input pixels when enlarging.
    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn value(self, x: f64) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Bicubic => bicubic(x.abs()),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// Keys' cubic with a = −0.5, for x ≥ 0.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// A part of a picture, as Pillow's `box`: its edges in pixels, not necessarily whole ones, inside the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

impl Window {
    /// All of a picture of this size.
    fn whole((width, height): (u32, u32)) -> Self {
        Self { left: 0.0, top: 0.0, right: width as f32, bottom: height as f32 }
    }

    /// Where it begins, if it is made of whole pixels and as large as this: then nothing is resized.
    fn cut(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        let is_whole = |from: f32, to: f32, length: u32| from.fract() == 0.0 && to - from == length as f32;
        let fits = is_whole(self.left, self.right, width) && is_whole(self.top, self.bottom, height);
        fits.then_some((self.left as u32, self.top as u32))
    }
}

/// What `image.resize((width, height), filter)` gives in Pillow. Width and height are at least 1.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    resize_window(image, &Window::whole(image.dimensions()), width, height, filter)
}

/// What `image.resize((width, height), filter, box=window)` gives in Pillow. Width and height are at least 1. As there, pixels
/// beside the window count where a kernel reaches them.
pub fn resize_window(image: &RgbImage, window: &Window, width: u32, height: u32, filter: Filter) -> RgbImage {
    let (from_width, from_height) = image.dimensions();
    if let Some((x, y)) = window.cut(width, height) {
        let is_whole = (width, height) == (from_width, from_height);
        return if is_whole { image.clone() } else { imageops::crop_imm(image, x, y, width, height).to_image() };
    }
    if filter == Filter::Nearest {
        return nearest(image, window, width, height);
    }
    let across = || kernels(from_width, (window.left, window.right), width, filter);
    let down = || kernels(from_height, (window.top, window.bottom), height, filter);
    if (window.top, window.bottom, height) == (0.0, height as f32, from_height) {
        resize_across(image, 0..from_height, &across())
    } else if (window.left, window.right, width) == (0.0, width as f32, from_width) {
        resize_down(image, 0..from_width, &down())
    } else if down_first((from_width, from_height), (width, height)) {
        let mut across = across();
        let lower = resize_down(image, used(&mut across), &down());
        resize_across(&lower, 0..height, &across)
    } else {
        let mut down = down();
        let narrower = resize_across(image, used(&mut down), &across());
        resize_down(&narrower, 0..width, &down)
    }
}

/// Whether Pillow 13 makes the picture lower before it changes the width: when that takes away more
/// than twice as many rows as columns, of the whole picture and not of a window.
fn down_first(from: (u32, u32), to: (u32, u32)) -> bool {
    let columns_less = i64::from(from.0) - i64::from(to.0);
    let rows_less = i64::from(from.1) - i64::from(to.1);
    rows_less > 0 && rows_less > 2 * columns_less
}

/// A smaller copy that fits into `side`×`side`, of the same proportions; a picture that fits
/// already is copied as it is.
pub fn thumbnail(image: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= side {
        return image.clone();
    }
    let scaled = |length: u32| ((f64::from(length) * f64::from(side) / f64::from(longest)).round() as u32).max(1);
    resize(image, scaled(width), scaled(height), Filter::Lanczos)
}

const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The input pixels that one output pixel is made of: the first one, and the fixed-point weights.
struct Kernel {
    start: usize,
    weights: Vec<i32>,
}

/// For each of `to` pixels that are made of what lies between two places, of `from` pixels in all.
fn kernels(from: u32, (start, end): (f32, f32), to: u32, filter: Filter) -> Vec<Kernel> {
    let scale = f64::from(end - start) / f64::from(to);
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let inverse = 1.0 / filter_scale;
    let kernel = |position: u32| {
        let center = f64::from(start) + (f64::from(position) + 0.5) * scale;
        let first = ((center - support + 0.5) as i64).max(0);
        let behind = ((center + support + 0.5) as i64).min(i64::from(from));
        let weights: Vec<f64> = (first..behind).map(|x| filter.value((x as f64 - center + 0.5) * inverse)).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: &f64| {
            let weight = if total != 0.0 { weight / total } else { *weight };
            let scaled = weight * f64::from(1u32 << PRECISION_BITS);
            (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        Kernel { start: first as usize, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(kernel).collect()
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The rows or columns that kernels use, which then count from the first of these.
fn used(kernels: &mut [Kernel]) -> Range<u32> {
    let first = kernels.iter().map(|kernel| kernel.start).min().unwrap_or(0);
    let behind = kernels.iter().map(|kernel| kernel.start + kernel.weights.len()).max().unwrap_or(0);
    kernels.iter_mut().for_each(|kernel| kernel.start -= first);
    first as u32..behind as u32
}

/// Some rows of a picture, at another width.
fn resize_across(image: &RgbImage, rows: Range<u32>, kernels: &[Kernel]) -> RgbImage {
    let from_row = image.width() as usize * 3;
    let mut result = RgbImage::new(kernels.len() as u32, rows.len() as u32);
    let from = &image.as_raw()[rows.start as usize * from_row..rows.end as usize * from_row];
    let rows = result.par_chunks_exact_mut(kernels.len() * 3).zip(from.par_chunks_exact(from_row));
    rows.for_each(|(to, from)| {
        for (pixel, kernel) in to.chunks_exact_mut(3).zip(kernels) {
            let mut sums = [HALF; 3];
            for (input, weight) in from[kernel.start * 3..].chunks_exact(3).zip(&kernel.weights) {
                for (sum, value) in sums.iter_mut().zip(input) {
                    *sum += i32::from(*value) * weight;
                }
            }
            pixel.copy_from_slice(&sums.map(to_byte));
        }
    });
    result
}

/// Some columns of a picture, at another height.
fn resize_down(image: &RgbImage, columns: Range<u32>, kernels: &[Kernel]) -> RgbImage {
    let from_row = image.width() as usize * 3;
    let (skipped, row) = (columns.start as usize * 3, columns.len() * 3);
    let mut result = RgbImage::new(columns.len() as u32, kernels.len() as u32);
    result.par_chunks_exact_mut(row).zip(kernels).for_each(|(to, kernel)| {
        let mut sums = vec![HALF; row];
        for (input, weight) in image.as_raw()[kernel.start * from_row..].chunks_exact(from_row).zip(&kernel.weights) {
            for (sum, value) in sums.iter_mut().zip(&input[skipped..skipped + row]) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (byte, sum) in to.iter_mut().zip(sums) {
            *byte = to_byte(sum);
        }
    });
    result
}

fn nearest(image: &RgbImage, window: &Window, width: u32, height: u32) -> RgbImage {
    let columns = nearest_positions(image.width(), (window.left, window.right), width);
    let rows = nearest_positions(image.height(), (window.top, window.bottom), height);
    RgbImage::from_fn(width, height, |x, y| *image.get_pixel(columns[x as usize], rows[y as usize]))
}

/// Pillow adds the step up instead of multiplying; the rounding shows at large sizes.
fn nearest_positions(from: u32, (start, end): (f32, f32), to: u32) -> Vec<u32> {
    let step = f64::from(end - start) / f64::from(to);
    let mut position = f64::from(start) + step * 0.5;
    (0..to)
        .map(|_| {
            let here = (position as u32).min(from - 1);
            position += step;
            here
        })
        .collect()
}
