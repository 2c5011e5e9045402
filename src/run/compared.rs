//! What the rows of `comparisons.csv` of all kinds of runs have in common: they are tests, corrected together.

use crate::metrics::stats::holm;

/// A difference that chance makes more often than this is none.
pub const CERTAIN: f64 = 0.05;

/// A row of `comparisons.csv`.
pub trait Compared {
    /// Tests of one family (data set and metric) are corrected together.
    fn family(&self) -> (&str, &str);

    /// Two-sided, uncorrected.
    fn p_value(&self) -> f64;

    /// After Holm's correction; none in a file that was written before there was one.
    fn p_holm(&mut self) -> &mut Option<f64>;
}

/// Gives each row its corrected probability, where a row of its family has none yet.
pub fn correct<T: Compared>(rows: &mut [T]) {
    let families: Vec<(String, String)> =
        rows.iter().map(|row| row.family()).map(|(a, b)| (a.into(), b.into())).collect();
    let mut done: Vec<&(String, String)> = Vec::new();
    for family in &families {
        if done.contains(&family) {
            continue;
        }
        done.push(family);
        let places: Vec<usize> = (0..rows.len()).filter(|at| families[*at] == *family).collect();
        if places.iter().all(|at| rows[*at].p_holm().is_some()) {
            continue;
        }
        let p_values: Vec<f64> = places.iter().map(|at| rows[*at].p_value()).collect();
        for (at, corrected) in places.iter().zip(holm(&p_values)) {
            *rows[*at].p_holm() = Some(corrected);
        }
    }
}
