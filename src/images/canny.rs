//! Canny's edges (1986), number for number those of OpenCV: `cv2.Canny(picture, low, high)` with a Sobel kernel of 3 × 3 and the
//! sum of the absolute gradients; of a colour picture the channel with the largest counts.
//!
//! Source: <https://github.com/opencv/opencv/blob/4.x/modules/imgproc/src/canny.cpp>

use image::{Rgb, RgbImage};

/// tan(22.5°) in units of 2⁻¹⁵.
const TAN_22_5: i64 = 13573;

/// Edges in white on black: those above `high`, and those above `low` that are connected with them.
pub fn canny(picture: &RgbImage, low: i32, high: i32) -> RgbImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let gradients = gradients(picture);
    let magnitude = |x: isize, y: isize| -> i32 {
        let inside = x >= 0 && y >= 0 && (x as usize) < width && (y as usize) < height;
        if inside { gradients[y as usize * width + x as usize].2 } else { 0 }
    };
    let mut candidates = vec![false; width * height];
    let mut waiting = Vec::new();
    for (at, &(dx, dy, m)) in gradients.iter().enumerate() {
        let (x, y) = ((at % width) as isize, (at / width) as isize);
        if m <= low {
            continue;
        }
        let (across, along) = (i64::from(dx.abs()) * TAN_22_5, i64::from(dy.abs()) << 15);
        // Of two neighbours as large as the place itself the one behind is the edge.
        let is_peak = if along < across {
            m > magnitude(x - 1, y) && m >= magnitude(x + 1, y)
        } else if along > across + (i64::from(dx.abs()) << 16) {
            m > magnitude(x, y - 1) && m >= magnitude(x, y + 1)
        } else {
            let side = if (dx ^ dy) < 0 { -1 } else { 1 };
            m > magnitude(x - side, y - 1) && m > magnitude(x + side, y + 1)
        };
        candidates[at] = is_peak;
        if is_peak && m > high {
            waiting.push(at);
        }
    }
    let mut edges = RgbImage::new(width as u32, height as u32);
    while let Some(at) = waiting.pop() {
        let (x, y) = (at % width, at / width);
        edges.put_pixel(x as u32, y as u32, Rgb([255; 3]));
        candidates[at] = false;
        for row in y.saturating_sub(1)..(y + 2).min(height) {
            for column in x.saturating_sub(1)..(x + 2).min(width) {
                // Each is taken up once.
                if std::mem::take(&mut candidates[row * width + column]) {
                    waiting.push(row * width + column);
                }
            }
        }
    }
    edges
}

/// Sobel's derivatives of each place and the sum of their magnitudes, of the channel where that is largest; the picture goes on
/// beyond its borders as it ends there.
fn gradients(picture: &RgbImage) -> Vec<(i32, i32, i32)> {
    let (width, height) = picture.dimensions();
    let mut all = Vec::with_capacity(width as usize * height as usize);
    for y in 0..height {
        for x in 0..width {
            let (left, right) = (x.saturating_sub(1), (x + 1).min(width - 1));
            let (above, below) = (y.saturating_sub(1), (y + 1).min(height - 1));
            let of_channel = |channel: usize| {
                let at = |x: u32, y: u32| i32::from(picture.get_pixel(x, y)[channel]);
                let dx = at(right, above) + 2 * at(right, y) + at(right, below)
                    - at(left, above)
                    - 2 * at(left, y)
                    - at(left, below);
                let dy = at(left, below) + 2 * at(x, below) + at(right, below)
                    - at(left, above)
                    - 2 * at(x, above)
                    - at(right, above);
                (dx, dy, dx.abs() + dy.abs())
            };
            let mut largest = of_channel(0);
            for channel in 1..3 {
                let other = of_channel(channel);
                if other.2 > largest.2 {
                    largest = other;
                }
            }
            all.push(largest);
        }
    }
    all
}
