//! Bootstrap intervals: how far a score would move with other pictures of the same kind.

use anyhow::{Result, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

/// Where a score lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// The middle 95 % of these values.
    pub fn of(values: &mut [f64]) -> Result<Self> {
        if values.iter().any(|value| !value.is_finite()) {
            bail!("an interval of values that are not all finite");
        }
        values.sort_by(f64::total_cmp);
        match values {
            [] => bail!("an interval of no values"),
            values => Ok(Self { low: quantile(values, 0.025), high: quantile(values, 0.975) }),
        }
    }

    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Of sorted values, with linear interpolation between neighbours (NumPy's default).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// Draws `n` items with replacement, `resamples` times, and gives the intervals of `K` scores that
/// are computed together, so that scores of one resample belong to the same items. `scores` gets how
/// often each item was drawn. The same seed gives the same intervals on every machine.
pub fn bootstrap<const K: usize>(
    n: usize,
    resamples: usize,
    seed: u64,
    scores: impl Fn(&[f64]) -> [f64; K] + Sync,
) -> Result<[Interval; K]> {
    if n == 0 || resamples == 0 {
        bail!("a bootstrap needs items and resamples");
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draws = (0..resamples).map(|_| {
        let mut counts = vec![0.0; n];
        for _ in 0..n {
            // 64 bits on every machine, where usize may be narrower.
            counts[rng.random_range(0..n as u64) as usize] += 1.0;
        }
        counts
    });
    // Drawn one after the other and scored on all cores; the order of the scores does not matter.
    let all: Vec<[f64; K]> = draws.par_bridge().map(|counts| scores(&counts)).collect();
    let mut intervals = [Interval { low: 0.0, high: 0.0 }; K];
    for (k, interval) in intervals.iter_mut().enumerate() {
        *interval = Interval::of(&mut all.iter().map(|scores| scores[k]).collect::<Vec<_>>())?;
    }
    Ok(intervals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_is_as_wide_as_theory_says() {
        // Values 0..n have a known deviation; the mean's is that over √n.
        let n = 400;
        let mean = |counts: &[f64]| [counts.iter().enumerate().map(|(i, c)| i as f64 * c).sum::<f64>() / n as f64];
        let [interval] = bootstrap(n, 4000, 7, mean).unwrap();
        let deviation = ((n * n - 1) as f64 / 12.0).sqrt() / (n as f64).sqrt();
        let expected = 2.0 * 1.96 * deviation;
        assert!(((interval.high - interval.low) / expected - 1.0).abs() < 0.05, "{interval:?} {expected}");
        assert!(interval.contains((n - 1) as f64 / 2.0));
        assert_eq!(bootstrap(n, 100, 1, mean).unwrap(), bootstrap(n, 100, 1, mean).unwrap());
        assert_ne!(bootstrap(n, 100, 1, mean).unwrap(), bootstrap(n, 100, 2, mean).unwrap());
    }

    #[test]
    fn quantiles_interpolate() {
        let mut values: Vec<f64> = (0..=40).rev().map(f64::from).collect();
        assert_eq!(Interval::of(&mut values).unwrap(), Interval { low: 1.0, high: 39.0 });
        assert!(Interval::of(&mut [f64::NAN, 1.0]).is_err());
        assert!(Interval::of(&mut []).is_err());
    }
}
