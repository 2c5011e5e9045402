//! Pillow's resize, bit for bit: two passes (across and down), each a convolution whose kernel
//! widens when shrinking (antialiasing), in 22-bit fixed point, rounded to a byte after each pass.
//!
//! Source: Pillow `src/libImaging/Resample.c`, and `Geometry.c` for [`Filter::Nearest`]. The order of
//! the passes is that of Pillow 13; older ones always go across first.

use image::RgbImage;
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

/// What `image.resize((width, height), filter)` gives in Pillow. Width and height are at least 1.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    let (from_width, from_height) = image.dimensions();
    if (width, height) == (from_width, from_height) {
        return image.clone();
    }
    if filter == Filter::Nearest {
        return nearest(image, width, height);
    }
    if height == from_height {
        resize_across(image, width, filter)
    } else if width == from_width {
        resize_down(image, height, filter)
    } else if down_first((from_width, from_height), (width, height)) {
        resize_across(&resize_down(image, height, filter), width, filter)
    } else {
        resize_down(&resize_across(image, width, filter), height, filter)
    }
}

/// Whether Pillow 13 makes the picture lower before it changes the width: when that takes away more
/// than twice as many rows as columns.
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

fn kernels(from: u32, to: u32, filter: Filter) -> Vec<Kernel> {
    let scale = f64::from(from) / f64::from(to);
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let inverse = 1.0 / filter_scale;
    let kernel = |position: u32| {
        let center = (f64::from(position) + 0.5) * scale;
        let start = ((center - support + 0.5) as i64).max(0);
        let end = ((center + support + 0.5) as i64).min(i64::from(from));
        let weights: Vec<f64> = (start..end).map(|x| filter.value((x as f64 - center + 0.5) * inverse)).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: &f64| {
            let weight = if total != 0.0 { weight / total } else { *weight };
            let scaled = weight * f64::from(1u32 << PRECISION_BITS);
            (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        Kernel { start: start as usize, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(kernel).collect()
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn resize_across(image: &RgbImage, width: u32, filter: Filter) -> RgbImage {
    let kernels = kernels(image.width(), width, filter);
    let from_row = image.width() as usize * 3;
    let mut result = RgbImage::new(width, image.height());
    let rows = result.par_chunks_exact_mut(width as usize * 3).zip(image.as_raw().par_chunks_exact(from_row));
    rows.for_each(|(to, from)| {
        for (pixel, kernel) in to.chunks_exact_mut(3).zip(&kernels) {
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

fn resize_down(image: &RgbImage, height: u32, filter: Filter) -> RgbImage {
    let kernels = kernels(image.height(), height, filter);
    let row = image.width() as usize * 3;
    let mut result = RgbImage::new(image.width(), height);
    result.par_chunks_exact_mut(row).zip(&kernels).for_each(|(to, kernel)| {
        let mut sums = vec![HALF; row];
        for (input, weight) in image.as_raw()[kernel.start * row..].chunks_exact(row).zip(&kernel.weights) {
            for (sum, value) in sums.iter_mut().zip(input) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (byte, sum) in to.iter_mut().zip(sums) {
            *byte = to_byte(sum);
        }
    });
    result
}

fn nearest(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let columns = nearest_positions(image.width(), width);
    let rows = nearest_positions(image.height(), height);
    RgbImage::from_fn(width, height, |x, y| *image.get_pixel(columns[x as usize], rows[y as usize]))
}

/// Pillow adds the step up instead of multiplying; the rounding shows at large sizes.
fn nearest_positions(from: u32, to: u32) -> Vec<u32> {
    let step = f64::from(from) / f64::from(to);
    let mut position = step * 0.5;
    (0..to)
        .map(|_| {
            let here = (position as u32).min(from - 1);
            position += step;
            here
        })
        .collect()
}
