//! Strengths from comparisons of two: P(i is preferred to j) = 1/(1 + exp(θⱼ − θᵢ)) (Bradley and Terry 1952), by maximum
//! likelihood; a tie is half a win for each.

use super::{Z95, two_sided_normal};
use crate::metrics::stats::Interval;

/// Where no finite strengths fit best (something never lost, or never won), each is drawn towards 0 by a normal prior
/// of this precision: a standard deviation of about 3, odds of 20 to 1.
const PRECISION: f64 = 0.1;
const MOST_STEPS: usize = 100;

/// What comparisons came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Strengths {
    /// θ, log-odds; their sum is 0.
    pub values: Vec<f64>,
    /// Of the values, by the Fisher information.
    pub covariance: Vec<Vec<f64>>,
    /// Whether it took a prior to have them finite.
    pub prior: bool,
}

/// How much stronger one is than another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StrengthDifference {
    pub value: f64,
    pub interval: Interval,
    /// Two-sided, by the normal distribution (Wald).
    pub p_value: f64,
}

impl Strengths {
    /// The 95 % interval of a strength.
    pub fn interval(&self, at: usize) -> Interval {
        let half = Z95 * self.covariance[at][at].max(0.0).sqrt();
        Interval { low: self.values[at] - half, high: self.values[at] + half }
    }

    /// The variance of θᵢ − θⱼ.
    pub fn variance(&self, i: usize, j: usize) -> f64 {
        let of = &self.covariance;
        (of[i][i] + of[j][j] - 2.0 * of[i][j]).max(0.0)
    }

    pub fn difference(&self, i: usize, j: usize) -> StrengthDifference {
        let (value, deviation) = (self.values[i] - self.values[j], self.variance(i, j).sqrt());
        let interval = Interval { low: value - Z95 * deviation, high: value + Z95 * deviation };
        let p_value = if deviation > 0.0 { two_sided_normal(value / deviation) } else { 1.0 };
        StrengthDifference { value, interval, p_value }
    }
}

/// The strengths of `wins.len()` things, where `wins[i][j]` says how often i was preferred to j. None of no
/// comparisons.
pub fn bradley_terry(wins: &[Vec<f64>]) -> Option<Strengths> {
    let n = wins.len();
    if !wins.iter().flatten().any(|count| *count > 0.0) {
        return None;
    }
    let prior = !each_reaches_all(wins);
    let precision = if prior { PRECISION } else { 0.0 };
    let mut values = vec![0.0; n];
    for _ in 0..MOST_STEPS {
        let inverse = inverse(information(wins, &values, precision))?;
        let slope = slope(wins, &values, precision);
        let step: Vec<f64> = inverse.iter().map(|row| row.iter().zip(&slope).map(|(a, b)| a * b).sum()).collect();
        let before = likelihood(wins, &values, precision);
        // A whole step may lead too far from a bad start.
        let mut part = 1.0;
        let mut next = values.clone();
        while part > 1e-6 {
            next = values.iter().zip(&step).map(|(value, step)| value + part * step).collect();
            if likelihood(wins, &next, precision) >= before {
                break;
            }
            part /= 2.0;
        }
        values = next;
        if step.iter().all(|step| step.abs() < 1e-12) {
            break;
        }
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    values.iter_mut().for_each(|value| *value -= mean);
    let mut covariance = inverse(information(wins, &values, precision))?;
    // The direction in which all grow alike is not part of it.
    covariance.iter_mut().flatten().for_each(|entry| *entry -= 1.0 / (n as f64 * (1.0 + precision)));
    Some(Strengths { values, covariance, prior })
}

/// Whether there is a way of wins from each thing to every other: then, and only then, the best strengths are finite
/// (Ford 1957).
fn each_reaches_all(wins: &[Vec<f64>]) -> bool {
    let reaches = |won: &dyn Fn(usize, usize) -> bool| {
        let (mut seen, mut open) = (vec![false; wins.len()], vec![0]);
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                open.extend((0..wins.len()).filter(|to| won(at, *to) && !seen[*to]));
            }
        }
        seen.into_iter().all(|seen| seen)
    };
    reaches(&|a, b| wins[a][b] > 0.0) && reaches(&|a, b| wins[b][a] > 0.0)
}

fn chance(values: &[f64], i: usize, j: usize) -> f64 {
    1.0 / (1.0 + (values[j] - values[i]).exp())
}

fn likelihood(wins: &[Vec<f64>], values: &[f64], precision: f64) -> f64 {
    let mut sum = -0.5 * precision * values.iter().map(|value| value * value).sum::<f64>();
    for (i, row) in wins.iter().enumerate() {
        for (j, count) in row.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            sum -= count * (values[j] - values[i]).exp().ln_1p();
        }
    }
    sum
}

fn slope(wins: &[Vec<f64>], values: &[f64], precision: f64) -> Vec<f64> {
    let n = wins.len();
    let of = |i: usize| {
        let pulls = (0..n).filter(|j| *j != i).map(|j| {
            let p = chance(values, i, j);
            wins[i][j] * (1.0 - p) - wins[j][i] * p
        });
        pulls.sum::<f64>() - precision * values[i]
    };
    (0..n).map(of).collect()
}

/// The Fisher information, made invertible in the direction in which all values grow alike.
fn information(wins: &[Vec<f64>], values: &[f64], precision: f64) -> Vec<Vec<f64>> {
    let n = wins.len();
    let mut matrix = vec![vec![1.0 / n as f64; n]; n];
    for i in 0..n {
        matrix[i][i] += precision;
        for j in (0..n).filter(|j| *j != i) {
            let p = chance(values, i, j);
            let weight = (wins[i][j] + wins[j][i]) * p * (1.0 - p);
            matrix[i][i] += weight;
            matrix[i][j] -= weight;
        }
    }
    matrix
}

/// By Gauss and Jordan with pivots; None of a singular matrix.
fn inverse(mut matrix: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let n = matrix.len();
    for (i, row) in matrix.iter_mut().enumerate() {
        row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
    }
    for column in 0..n {
        let pivot = (column..n).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        matrix.swap(column, pivot);
        let scale = matrix[column][column];
        if !scale.is_finite() || scale.abs() < 1e-300 {
            return None;
        }
        matrix[column].iter_mut().for_each(|entry| *entry /= scale);
        let row = matrix[column].clone();
        for (_, other) in matrix.iter_mut().enumerate().filter(|(at, _)| *at != column) {
            let factor = other[column];
            other.iter_mut().zip(&row).for_each(|(entry, own)| *entry -= factor * own);
        }
    }
    Some(matrix.into_iter().map(|row| row[n..].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_things_have_the_log_odds_of_their_wins() {
        let strengths = bradley_terry(&[vec![0.0, 30.0], vec![10.0, 0.0]]).unwrap();
        let difference = strengths.difference(0, 1);
        assert!((difference.value - 3f64.ln()).abs() < 1e-12 && !strengths.prior);
        // The variance of log-odds: 1/30 + 1/10.
        assert!((strengths.variance(0, 1) - (1.0 / 30.0 + 1.0 / 10.0)).abs() < 1e-12);
        assert!(difference.interval.low > 0.0 && difference.p_value < 0.005);
        assert!((strengths.values[0] + strengths.values[1]).abs() < 1e-12);
    }

    #[test]
    fn what_never_lost_has_a_finite_strength_and_that_is_said() {
        let wins = vec![vec![0.0, 5.0, 5.0], vec![0.0, 0.0, 3.0], vec![0.0, 2.0, 0.0]];
        let strengths = bradley_terry(&wins).unwrap();
        assert!(strengths.prior && strengths.values.iter().all(|value| value.is_finite()));
        assert!(strengths.values[0] > strengths.values[1] && strengths.values[1] > strengths.values[2]);
        assert!(bradley_terry(&[vec![0.0, 0.0], vec![0.0, 0.0]]).is_none());
        // Two islands: nothing is known of one beside the other, and the interval says so.
        let mut islands = vec![vec![0.0; 4]; 4];
        (islands[0][1], islands[1][0], islands[2][3], islands[3][2]) = (9.0, 3.0, 3.0, 9.0);
        let apart = bradley_terry(&islands).unwrap().difference(0, 2);
        assert!(apart.interval.contains(0.0));
    }
}
