//! Scores of the same items, held against each other: how far they lie apart, and whether chance explains it.
//!
//! Everything here goes through one description of a score, [`Moving`]: its value, and how each item moves it. Of a mean
//! those are the items' values. Of a Fréchet distance and the like they are its influence function: a plain bootstrap would
//! draw items twice, which makes a set look poorer than it is and shifts every resample the same way. That bias, as the
//! one of small samples, is the same for two scores of equally many items and cancels in their difference; what is left
//! to know is how far the difference would move with other items, and that the influences say.
//!
//! The test is the paired bootstrap in its symmetric studentized form (Hall, "On symmetric bootstrap confidence intervals",
//! 1988): each resample draws items, and of an item its values in both scores, and the size of its difference is measured
//! in units of its own standard error. At a level of 5 % and 24 items this rejects 3 to 4.5 % of equal scores, be the tails
//! of the differences normal or heavy; shares of plain resamples reject 6.5 to 8 %, and studentized ones with a quantile
//! for each side up to 9 %. Interval and probability come from the same resamples: the interval leaves 0 out where the
//! probability is below 0.05.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Interval, quantile};

/// Resamples of a test where few are made together.
const RESAMPLES: usize = 10_000;
/// More than this many are never drawn.
const MOST_RESAMPLES: usize = 100_000;
/// With fewer items the resamples repeat each other, and Student's t stands in for them.
const FEWEST: usize = 6;
/// Numbers of resamples that are in memory at a time.
const AT_A_TIME: usize = 4_000_000;
/// Differences below this part of the scores are rounding.
const ROUNDING: f64 = 1e-10;

/// A score and how its items move it.
#[derive(Debug, Clone, PartialEq)]
pub struct Moving {
    pub value: f64,
    /// A number for each item. Their mean changes as the score does when the items are others of the same kind; what
    /// is added to all of them does not matter.
    pub by_item: Vec<f64>,
}

/// An estimate over items: its value, where it lies with 95 % confidence, and the two-sided probability that one so far
/// from 0 comes about by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub interval: Interval,
    pub p_value: f64,
}

impl Moving {
    /// The mean of the items' values.
    pub fn mean(values: Vec<f64>) -> Self {
        Self { value: values.iter().sum::<f64>() / values.len() as f64, by_item: values }
    }

    /// This score less another of the same items in the same order.
    pub fn less(&self, other: &Self) -> Self {
        let noise = ROUNDING * self.value.abs().max(other.value.abs());
        let less = |a: f64, b: f64| if (a - b).abs() <= noise { 0.0 } else { a - b };
        // The by-item numbers have constants of their own, which must not hide that nothing differs.
        let (own, others) = (centred(&self.by_item), centred(&other.by_item));
        let by_item = own.iter().zip(&others).map(|(a, b)| less(*a, *b)).collect();
        Self { value: less(self.value, other.value), by_item }
    }

    /// The mean of scores of the same items. None of none.
    pub fn mean_of<'a>(scores: impl ExactSizeIterator<Item = &'a Self>) -> Option<Self> {
        let count = scores.len() as f64;
        let mut scores = scores;
        let mut sum = scores.next()?.clone();
        for score in scores {
            sum.value += score.value;
            sum.by_item.iter_mut().zip(&score.by_item).for_each(|(sum, own)| *sum += own);
        }
        sum.value /= count;
        sum.by_item.iter_mut().for_each(|value| *value /= count);
        Some(sum)
    }

    fn is_finite(&self) -> bool {
        self.value.is_finite() && self.by_item.iter().all(|value| value.is_finite())
    }
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

/// Interval and probability of each of these scores by the studentized bootstrap over its items. `tests` is how many of
/// them are corrected together, for which the resamples must tell small enough probabilities. The same seed gives the
/// same resamples for every score of as many items.
///
/// Fails when a score has fewer than two items, or some number is not finite.
pub fn estimates(scores: &[&Moving], tests: usize, seed: u64) -> Result<Vec<Estimate>> {
    let mut by_count: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, score) in scores.iter().enumerate() {
        ensure!(score.is_finite(), "an interval of values that are not all finite");
        by_count.entry(score.by_item.len()).or_default().push(at);
    }
    let mut found: Vec<Option<Estimate>> = vec![None; scores.len()];
    for (n, places) in by_count {
        ensure!(n >= 2, "an interval needs at least 2 items, here {n}");
        let of_count: Vec<Estimate> = if n < FEWEST {
            places.iter().map(|at| students(scores[*at])).collect()
        } else {
            let columns: Vec<Column> = places.iter().map(|at| Column::new(scores[*at])).collect();
            let resamples = resamples(tests);
            let parts = columns.chunks((AT_A_TIME / resamples).max(1));
            parts.flat_map(|part| studentized(part, n, resamples, seed)).collect()
        };
        places.into_iter().zip(of_count).for_each(|(at, estimate)| found[at] = Some(estimate));
    }
    Ok(found.into_iter().flatten().collect())
}

/// As many that the smallest probability which they can tell stays below 0.01 after a correction for `tests` tests.
fn resamples(tests: usize) -> usize {
    (100 * tests).clamp(RESAMPLES, MOST_RESAMPLES)
}

/// A score with its items' numbers less their mean, and its standard error.
struct Column {
    value: f64,
    centred: Vec<f64>,
    error: f64,
}

impl Column {
    fn new(score: &Moving) -> Self {
        let centred = centred(&score.by_item);
        let n = centred.len() as f64;
        let error = (centred.iter().map(|value| value * value).sum::<f64>() / n).sqrt() / n.sqrt();
        Self { value: score.value, centred, error }
    }

    /// What there is to say where all items agree. They agree in sign by chance alone once in 2ⁿ⁻¹ times.
    fn agreed(&self) -> Estimate {
        let n = self.centred.len() as i32;
        let p_value = if self.value == 0.0 { 1.0 } else { 0.5f64.powi(n - 1) };
        Estimate { value: self.value, interval: Interval { low: self.value, high: self.value }, p_value }
    }

    fn is_agreed(&self) -> bool {
        self.error <= f64::EPSILON * self.value.abs()
    }
}

/// How far each score of each resample lies from the sample's, in units of its own standard error.
fn studentized(columns: &[Column], n: usize, resamples: usize, seed: u64) -> Vec<Estimate> {
    let width = columns.len();
    // An item's numbers side by side: [n, columns].
    let rows: Vec<f64> = (0..n).flat_map(|item| columns.iter().map(move |column| column.centred[item])).collect();
    let one = |counts: &mut Vec<u32>, resample: usize| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(resample as u64);
        counts.clear();
        counts.resize(n, 0);
        (0..n).for_each(|_| counts[random.random_range(0..n as u32) as usize] += 1);
        let (mut sums, mut squares) = (vec![0.0; width], vec![0.0; width]);
        for (row, count) in rows.chunks_exact(width).zip(counts.iter()).filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            for ((value, sum), square) in row.iter().zip(&mut sums).zip(&mut squares) {
                *sum += count * value;
                *square += count * value * value;
            }
        }
        let items = n as f64;
        let scaled = |((sum, square), column): ((f64, f64), &Column)| {
            let (mean, variance) = (sum / items, square / items - (sum / items).powi(2));
            // A resample of equal values has no scale, and says nothing.
            let own = column.error.powi(2) * items;
            if variance > 1e-12 * own { mean.abs() / (variance / items).sqrt() } else { f64::NAN }
        };
        sums.into_iter().zip(squares).zip(columns).map(scaled).collect::<Vec<f64>>()
    };
    let all: Vec<Vec<f64>> = (0..resamples).into_par_iter().map_init(Vec::new, one).collect();
    let of_column = |(at, column): (usize, &Column)| {
        let scaled: Vec<f64> = all.iter().map(|row| row[at]).filter(|value| value.is_finite()).collect();
        read_off(column, scaled)
    };
    columns.par_iter().enumerate().map(of_column).collect()
}

fn read_off(column: &Column, mut scaled: Vec<f64>) -> Estimate {
    let value = column.value;
    if column.is_agreed() || scaled.is_empty() {
        return column.agreed();
    }
    scaled.sort_unstable_by(f64::total_cmp);
    let beyond = scaled.len() - scaled.partition_point(|other| *other < (value / column.error).abs());
    // With the sample itself among the resamples no probability is 0.
    let p_value = (1 + beyond) as f64 / (scaled.len() + 1) as f64;
    let half = quantile(&scaled, 0.95).unwrap_or(0.0) * column.error;
    Estimate { value, interval: Interval { low: value - half, high: value + half }, p_value }
}

/// The one-sample t test of the items' numbers, for 2 to 5 of them.
fn students(score: &Moving) -> Estimate {
    let column = Column::new(score);
    if column.is_agreed() {
        return column.agreed();
    }
    let n = score.by_item.len() as f64;
    let error = column.error * (n / (n - 1.0)).sqrt();
    let t = (score.value / error).abs();
    // The distribution functions of 1 to 4 degrees of freedom in closed form, and their 97.5 % quantiles.
    let (beyond, quantile) = match score.by_item.len() {
        2 => (0.5 - t.atan() / std::f64::consts::PI, 12.706_204_736_174_7),
        3 => (0.5 - t / (2.0 * (2.0 + t * t).sqrt()), 4.302_652_729_749_46),
        4 => {
            let x = t / 3f64.sqrt();
            (0.5 - (x / (1.0 + x * x) + x.atan()) / std::f64::consts::PI, 3.182_446_305_283_71)
        }
        _ => {
            let x = t * t / (4.0 + t * t);
            (0.5 - 0.5 * x.sqrt() * (1.0 + 0.5 * (1.0 - x)), 2.776_445_105_197_79)
        }
    };
    let half = quantile * error;
    let interval = Interval { low: score.value - half, high: score.value + half };
    Estimate { value: score.value, interval, p_value: (2.0 * beyond).clamp(0.0, 1.0) }
}
