//! Rank correlation.

use super::{Z95, two_sided_normal};
use crate::metrics::stats::Interval;

/// A rank correlation, with its 95 % interval where there are enough values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlation {
    pub rho: f64,
    /// By Fisher's transformation with the variance (1 + ρ²/2)/(n − 3) of Bonett and Wright (2000).
    pub interval: Option<Interval>,
    /// Two-sided, of no correlation, by the same transformation with the variance 1/(n − 3).
    pub p_value: Option<f64>,
    pub n: usize,
}

/// Spearman's ρ of pairs; equal values share the mean of their ranks. None where one side does not vary.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<Correlation> {
    let ranks = |side: fn(&(f64, f64)) -> f64| ranks(&pairs.iter().map(side).collect::<Vec<_>>());
    let (a, b) = (ranks(|pair| pair.0), ranks(|pair| pair.1));
    let n = pairs.len();
    let mean = (n as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    if n < 2 || scale <= 0.0 {
        return None;
    }
    let rho = (product(&a, &b) / scale).clamp(-1.0, 1.0);
    let (mut interval, mut p_value) = (None, None);
    if n > 3 && rho.abs() < 1.0 {
        let (z, free) = (rho.atanh(), n as f64 - 3.0);
        let half = Z95 * ((1.0 + rho * rho / 2.0) / free).sqrt();
        interval = Some(Interval { low: (z - half).tanh(), high: (z + half).tanh() });
        p_value = Some(two_sided_normal(z * free.sqrt()));
    }
    Some(Correlation { rho, interval, p_value, n })
}

/// Ranks from 1, equal values with the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same = order[start..].iter().take_while(|at| values[**at] == values[order[start]]).count().max(1);
        for at in &order[start..start + same] {
            ranks[*at] = start as f64 + (same as f64 + 1.0) / 2.0;
        }
        start += same;
    }
    ranks
}
