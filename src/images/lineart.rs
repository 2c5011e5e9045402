//! Lines of a picture without a network, as a ControlNet for line art reads them: white on black, where the picture is darker than
//! its surroundings. Those of the "standard" detector of controlnet_aux, at the picture's own size, and its blur number for number
//! as OpenCV computes it in float32 (`cv2.GaussianBlur(x, (0, 0), 6)`).
//!
//! Sources: <https://github.com/huggingface/controlnet_aux/blob/master/src/controlnet_aux/lineart_standard/__init__.py>,
//! <https://github.com/opencv/opencv/blob/4.x/modules/imgproc/src/smooth.dispatch.cpp>

use image::RgbImage;
use rayon::prelude::*;

/// Standard deviation of the blur, in pixels.
const SIGMA: f64 = 6.0;
/// Weights on each side of the middle one: OpenCV goes to four standard deviations in float32.
const RADIUS: usize = 24;
/// Lines stand out from their surroundings by more grey levels than this.
const THRESHOLD: f32 = 8.0;
/// A picture of fainter lines than this many grey levels is not amplified to full strength.
const FAINTEST: f32 = 16.0;
/// What a line of middling strength becomes.
const MIDDLE: f32 = 127.0;

/// Lines in white on black; the strength of most is near the middle grey.
pub fn lineart(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let values: Vec<f32> = picture.as_raw().iter().map(|value| f32::from(*value)).collect();
    let blurred = blurred(&values, width as usize, height as usize);
    // Of a colour picture the channel that stands out least counts.
    let darker = |(around, own): (&[f32], &[f32])| {
        let least = around.iter().zip(own).map(|(around, own)| around - own).fold(f32::INFINITY, f32::min);
        least.clamp(0.0, 255.0)
    };
    let mut lines: Vec<f32> = blurred.chunks(3).zip(values.chunks(3)).map(darker).collect();
    let strength = median(lines.iter().copied().filter(|line| *line > THRESHOLD).collect()).max(FAINTEST);
    lines.iter_mut().for_each(|line| *line = *line / strength * MIDDLE);
    // A cast cuts off what is behind the point, and ends at 255.
    let level = |x: u32, y: u32| lines[y as usize * width as usize + x as usize] as u8;
    RgbImage::from_fn(width, height, |x, y| image::Rgb([level(x, y); 3]))
}

/// The mean of the two in the middle where there are as many on both sides; 0 of none.
fn median(mut values: Vec<f32>) -> f32 {
    values.sort_by(f32::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (count, middle) if count % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Weights of the middle and of one side.
fn weights() -> Vec<f32> {
    let bell = |x: usize| (-((x * x) as f64) / (2.0 * SIGMA * SIGMA)).exp();
    let sum = bell(0) + 2.0 * (1..=RADIUS).map(bell).sum::<f64>();
    (0..=RADIUS).map(|x| (bell(x) / sum) as f32).collect()
}

/// `sum + value · weight` rounded once, as a fused multiply-add: the product of two float32 is exact in float64.
fn add(sum: &mut f32, value: f32, weight: f32) {
    *sum = (f64::from(value) * f64::from(weight) + f64::from(*sum)) as f32;
}

/// The place that stands for one beyond the border: mirrored at the outermost pixel, as often as it takes.
fn mirrored(at: isize, length: usize) -> usize {
    let period = 2 * (length as isize - 1);
    if period == 0 {
        return 0;
    }
    let at = at.rem_euclid(period);
    at.min(period - at) as usize
}

/// A picture of three channels, blurred along its rows and then along its columns; a side of one pixel is left as it is.
fn blurred(values: &[f32], width: usize, height: usize) -> Vec<f32> {
    let (weights, row) = (weights(), 3 * width);
    let mut wide = values.to_vec();
    if width > 1 {
        let along = |(out, own): (&mut [f32], &[f32])| {
            let places = -(RADIUS as isize)..(width + RADIUS) as isize;
            let padded: Vec<f32> = places.flat_map(|at| &own[3 * mirrored(at, width)..][..3]).copied().collect();
            out.fill(0.0);
            // From the left to the right.
            for at in 0..=2 * RADIUS {
                let weight = weights[at.abs_diff(RADIUS)];
                out.iter_mut().zip(&padded[3 * at..]).for_each(|(sum, value)| add(sum, *value, weight));
            }
        };
        wide.par_chunks_mut(row).zip(values.par_chunks(row)).for_each(along);
    }
    if height == 1 {
        return wide;
    }
    let mut both = vec![0.0; values.len()];
    both.par_chunks_mut(row).enumerate().for_each(|(y, out)| {
        let line = |at: isize| &wide[row * mirrored(at, height)..][..row];
        let y = y as isize;
        out.iter_mut().zip(line(y)).for_each(|(sum, value)| *sum = value * weights[0]);
        // What is as far above as below is added first.
        for (at, weight) in weights.iter().enumerate().skip(1) {
            let (above, below) = (line(y - at as isize), line(y + at as isize));
            let pairs = above.iter().zip(below).map(|(above, below)| above + below);
            out.iter_mut().zip(pairs).for_each(|(sum, pair)| add(sum, pair, *weight));
        }
    });
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_mirrors() {
        let places = |length| (-4..length as isize + 4).map(|at| mirrored(at, length)).collect::<Vec<_>>();
        assert_eq!(places(3), [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]);
        assert_eq!(places(1), [0; 9]);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!((median(vec![]), median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0])), (0.0, 2.0, 2.5));
    }
}
