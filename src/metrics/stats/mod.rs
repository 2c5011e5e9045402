//! The statistics of all metrics: intervals, quantiles, and the bootstrap that says how far a score would move with
//! other pictures of the same kind.

mod paired;

use anyhow::{Result, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

pub use paired::{Estimate, Moving, estimates};

/// Resamples of a bootstrap where nobody says.
pub const RESAMPLES: usize = 1000;

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
        values.sort_unstable_by(f64::total_cmp);
        match (quantile(values, 0.025), quantile(values, 0.975)) {
            (Some(low), Some(high)) => Ok(Self { low, high }),
            _ => bail!("an interval of no values"),
        }
    }

    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Quantile `q` of sorted values, with linear interpolation between neighbours (NumPy's default). None of nothing.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let place = q * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// Draws `n` items with replacement, `resamples` times: how often each item was drawn. The same seed gives the same
/// draws on every machine.
pub fn draws(n: usize, resamples: usize, seed: u64) -> impl Iterator<Item = Vec<f64>> + Send {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..resamples).map(move |_| {
        let mut counts = vec![0.0; n];
        for _ in 0..n {
            // 64 bits on every machine, where usize may be narrower.
            counts[rng.random_range(0..n as u64) as usize] += 1.0;
        }
        counts
    })
}

/// The [`draws`], drawn before there is anything to score: they take a moment, for one has to come after the other.
#[derive(Debug)]
pub struct Drawn(Vec<Vec<u16>>);

impl Drawn {
    pub fn new(n: usize, resamples: usize, seed: u64) -> Self {
        // Items are drawn once on average: no count comes near the limit.
        Self(draws(n, resamples, seed).map(|counts| counts.iter().map(|count| *count as u16).collect()).collect())
    }
}

/// [`bootstrap`] with draws that are there.
pub fn bootstrap_of<const K: usize>(
    drawn: &Drawn,
    scores: impl Fn(&[f64]) -> [f64; K] + Sync,
) -> Result<[Interval; K]> {
    let of_one = |counts: &Vec<u16>| scores(&counts.iter().map(|count| f64::from(*count)).collect::<Vec<_>>());
    intervals(&drawn.0.par_iter().map(of_one).collect::<Vec<_>>())
}

/// The intervals of `K` scores over the [`draws`] that are computed together, so that scores of one resample belong to
/// the same items. `scores` gets how often each item was drawn.
pub fn bootstrap<const K: usize>(
    n: usize,
    resamples: usize,
    seed: u64,
    scores: impl Fn(&[f64]) -> [f64; K] + Sync,
) -> Result<[Interval; K]> {
    if n == 0 || resamples == 0 {
        bail!("a bootstrap needs items and resamples");
    }
    // Drawn one after the other and scored on all cores; the order of the scores does not matter.
    intervals(&draws(n, resamples, seed).par_bridge().map(|counts| scores(&counts)).collect::<Vec<_>>())
}

fn intervals<const K: usize>(all: &[[f64; K]]) -> Result<[Interval; K]> {
    let mut intervals = [Interval { low: 0.0, high: 0.0 }; K];
    for (k, interval) in intervals.iter_mut().enumerate() {
        *interval = Interval::of(&mut all.iter().map(|scores| scores[k]).collect::<Vec<_>>())?;
    }
    Ok(intervals)
}

/// Runs `measure` on resamples of `n` items, drawn with replacement, each a list of items.
///
/// Each resample has its own stream of numbers, which [`draws`] has not: captions were scored so from the start, and
/// the intervals of a run stay what they were.
pub fn resample<T: Send>(n: usize, seed: u64, measure: impl Fn(&[usize]) -> T + Sync) -> Vec<T> {
    (0..RESAMPLES)
        .into_par_iter()
        .map_init(Vec::new, |items, resample| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(resample as u64);
            items.clear();
            items.extend((0..n).map(|_| random.random_range(0..n as u32) as usize));
            measure(items)
        })
        .collect()
}

/// What resampled differences of two scores say: the share of them above 0, and the two-sided probability of a
/// difference by chance (twice the smaller share on one side of 0, at most 1).
pub fn two_sided(differences: &[f64]) -> (f64, f64) {
    let share = |wanted: fn(f64) -> bool| {
        differences.iter().filter(|difference| wanted(**difference)).count() as f64 / differences.len() as f64
    };
    let (above, below) = (share(|difference| difference > 0.0), share(|difference| difference < 0.0));
    (above, (2.0 * (1.0 - above.max(below))).min(1.0))
}

/// Holm's correction (1979) of probabilities that were tested together: each with as many as are not smaller.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let (mut corrected, mut highest) = (vec![0.0; p_values.len()], 0.0f64);
    for (rank, at) in order.into_iter().enumerate() {
        highest = highest.max(p_values[at] * (p_values.len() - rank) as f64).min(1.0);
        corrected[at] = highest;
    }
    corrected
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
        // The other way of drawing comes to the same width.
        let means = resample(n, 7, |items| items.iter().sum::<usize>() as f64 / n as f64);
        let other = Interval::of(&mut means.clone()).unwrap();
        assert!(((other.high - other.low) / expected - 1.0).abs() < 0.1, "{other:?} {expected}");
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        let mut values: Vec<f64> = (0..=40).rev().map(f64::from).collect();
        assert_eq!(Interval::of(&mut values).unwrap(), Interval { low: 1.0, high: 39.0 });
        assert!(Interval::of(&mut [f64::NAN, 1.0]).is_err());
        assert!(Interval::of(&mut []).is_err());
        let values = [1.0, 2.0, 4.0, 8.0];
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|q| quantile(&values, q)), [1.0, 1.75, 3.0, 8.0].map(Some));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn chance_explains_what_lies_on_both_sides() {
        assert_eq!(two_sided(&[1.0, 2.0, 3.0, 4.0]), (1.0, 0.0));
        assert_eq!(two_sided(&[-1.0, 2.0, 3.0, 4.0]), (0.75, 0.5));
        assert_eq!(two_sided(&[0.0, 0.0]), (0.0, 1.0));
    }
}
