//! Pillow's resize, bit for bit: two passes (across and down), each a convolution whose kernel
//! widens when shrinking (antialiasing), in 22-bit fixed point, rounded to a byte after each pass.
//!
//! Source: Pillow `src/libImaging/Resample.c`, and `Geometry.c` for [`Filter::Nearest`]. The order of
//! the passes is that of Pillow 13; older ones always go across first.

use image::{RgbImage, imageops};

use super::resample::{kernels, resize_across, resize_down, used};

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
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    pub(super) fn value(self, x: f64) -> f64 {
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
