//! The interval of a share.

use super::Z95;
use crate::metrics::stats::Interval;

/// The 95 % score interval of Wilson (1927) of `successes` among `n`; None of nothing. `successes` may be a sum of
/// shares, where several people judged one thing.
pub fn wilson(successes: f64, n: usize) -> Option<Interval> {
    if n == 0 || !(0.0..=n as f64).contains(&successes) {
        return None;
    }
    let (n, z2) = (n as f64, Z95 * Z95);
    let share = successes / n;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    // At the ends rounding would leave a little beyond.
    Some(Interval { low: (middle - half).max(0.0), high: (middle + half).min(1.0) })
}
