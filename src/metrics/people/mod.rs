//! The statistics of what people say: how often they call something a success, which of two they like better, how far
//! they agree, and how far a metric goes with them.

pub mod agreement;
pub mod bradley_terry;
mod spearman;
mod wilson;

pub use agreement::{cohen, fleiss};
pub use bradley_terry::{StrengthDifference, Strengths, bradley_terry};
pub use spearman::{Correlation, spearman};
pub use wilson::wilson;

/// The quantile of the standard normal distribution that leaves 2.5 % above it.
const Z95: f64 = 1.959_963_984_540_054;

/// The two-sided probability of a standard normal value at least this far from 0.
fn two_sided_normal(z: f64) -> f64 {
    libm::erfc(z.abs() / std::f64::consts::SQRT_2)
}
