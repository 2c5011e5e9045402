//! A run folder as files: where things are, the rows of its tables, and how they are read and written.
//! Experiments write it, reports read it; neither knows the other.

pub mod caption;
pub mod csv;
pub mod gallery_score;
pub mod guard;
pub mod journal;
pub mod layout;
pub mod style;

/// The value, unless it is not a number or infinite: those mean "not measured".
pub fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}
