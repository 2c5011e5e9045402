//! The two passes of [`resize`](super::resize): weighted sums of bytes in 22-bit fixed point, many beside each other.

use std::ops::Range;

use image::RgbImage;
use rayon::prelude::*;

use super::Filter;

const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The input pixels that one output pixel is made of: the first one, and the fixed-point weights.
pub struct Kernel {
    start: usize,
    weights: Vec<i32>,
}

/// For each of `to` pixels that are made of what lies between two places, of `from` pixels in all.
pub fn kernels(from: u32, (start, end): (f32, f32), to: u32, filter: Filter) -> Vec<Kernel> {
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

/// So many sums are made beside each other, as many as the registers of a processor hold.
const LANES: usize = 48;

/// Rows that are brought to another width together: a pixel of each fills the lanes.
const ROWS: usize = LANES / 3;

/// Of values that lie `stride` bytes apart the weighted sums, and of those behind each likewise, as bytes.
type Sums = fn(values: &[u8], stride: usize, weights: &[i32]) -> [u8; LANES];

/// With the widest registers that this processor has; to the same bytes.
fn sums() -> Sums {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return |values, stride, weights| unsafe { avx2_sums(values, stride, weights) };
    }
    plain_sums
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2_sums(values: &[u8], stride: usize, weights: &[i32]) -> [u8; LANES] {
    plain_sums(values, stride, weights)
}

#[inline(always)]
fn plain_sums(values: &[u8], stride: usize, weights: &[i32]) -> [u8; LANES] {
    // Loops of the plainest kind: an iterator's functions may stay outside, where the wide registers are not used.
    let (mut sums, mut rest) = ([HALF; LANES], values);
    for weight in weights {
        let Some(values) = rest.first_chunk::<LANES>() else { break };
        let mut lane = 0;
        while lane < LANES {
            sums[lane] += values[lane] as i32 * weight;
            lane += 1;
        }
        rest = rest.get(stride..).unwrap_or_default();
    }
    let (mut bytes, mut lane) = ([0; LANES], 0);
    while lane < LANES {
        bytes[lane] = to_byte(sums[lane]);
        lane += 1;
    }
    bytes
}

/// The rows or columns that kernels use, which then count from the first of these.
pub fn used(kernels: &mut [Kernel]) -> Range<u32> {
    let first = kernels.iter().map(|kernel| kernel.start).min().unwrap_or(0);
    let behind = kernels.iter().map(|kernel| kernel.start + kernel.weights.len()).max().unwrap_or(0);
    kernels.iter_mut().for_each(|kernel| kernel.start -= first);
    first as u32..behind as u32
}

/// Some rows of a picture, at another width.
pub fn resize_across(image: &RgbImage, rows: Range<u32>, kernels: &[Kernel]) -> RgbImage {
    let (from_row, to_row, sums) = (image.width() as usize * 3, kernels.len() * 3, sums());
    let mut result = RgbImage::new(kernels.len() as u32, rows.len() as u32);
    let from = &image.as_raw()[rows.start as usize * from_row..rows.end as usize * from_row];
    let together = result.par_chunks_mut(ROWS * to_row).zip(from.par_chunks(ROWS * from_row));
    together.for_each_init(
        || vec![0; ROWS * from_row],
        |columns, (to, from)| {
            // Column by column, the rows beside each other. Of the last rows some lanes may be empty.
            for (at, row) in from.chunks_exact(from_row).enumerate() {
                for (column, pixel) in columns.chunks_exact_mut(LANES).zip(row.chunks_exact(3)) {
                    column[at * 3..at * 3 + 3].copy_from_slice(pixel);
                }
            }
            for (place, kernel) in kernels.iter().enumerate() {
                let pixels = sums(&columns[kernel.start * LANES..], LANES, &kernel.weights);
                for (row, pixel) in to.chunks_exact_mut(to_row).zip(pixels.chunks_exact(3)) {
                    row[place * 3..place * 3 + 3].copy_from_slice(pixel);
                }
            }
        },
    );
    result
}

/// Some columns of a picture, at another height.
pub fn resize_down(image: &RgbImage, columns: Range<u32>, kernels: &[Kernel]) -> RgbImage {
    let from_row = image.width() as usize * 3;
    let (skipped, row, sums) = (columns.start as usize * 3, columns.len() * 3, sums());
    let mut result = RgbImage::new(columns.len() as u32, kernels.len() as u32);
    result.par_chunks_exact_mut(row).zip(kernels).for_each(|(to, kernel)| {
        let from = &image.as_raw()[kernel.start * from_row + skipped..];
        for place in (0..row).step_by(LANES) {
            // The last ones once more, where they do not fill the lanes.
            let place = place.min(row.saturating_sub(LANES));
            match to.get_mut(place..place + LANES) {
                Some(to) => to.copy_from_slice(&sums(&from[place..], from_row, &kernel.weights)),
                None => to.iter_mut().enumerate().for_each(|(place, to)| *to = sum(&from[place..], from_row, kernel)),
            }
        }
    });
    result
}

/// One of the sums, of a picture too narrow to fill the lanes.
fn sum(values: &[u8], stride: usize, kernel: &Kernel) -> u8 {
    let products = values.iter().step_by(stride).zip(&kernel.weights).map(|(value, weight)| i32::from(*value) * weight);
    to_byte(HALF + products.sum::<i32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures are compared with Pillow's elsewhere, in the way of the machine that tests run on.
    #[test]
    fn all_ways_to_sum_agree() {
        let (stride, kernels) = (LANES + 5, kernels(40, (0.0, 40.0), 7, Filter::Lanczos));
        let values: Vec<u8> = (0..40 * stride).map(|at| (at * at % 251) as u8).collect();
        for kernel in &kernels {
            let values = &values[kernel.start * stride..];
            let one_by_one: Vec<u8> = (0..LANES).map(|lane| sum(&values[lane..], stride, kernel)).collect();
            assert_eq!(sums()(values, stride, &kernel.weights).as_slice(), one_by_one);
            assert_eq!(plain_sums(values, stride, &kernel.weights).as_slice(), one_by_one);
        }
    }
}
