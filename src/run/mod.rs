//! A run folder as files: where things are, the rows of its tables, and how they are read and written.
//! Experiments write it, reports read it; neither knows the other.

pub mod caption;
pub mod compared;
pub mod csv;
pub mod factors;
pub mod gallery_score;
pub mod guard;
pub mod journal;
pub mod layout;
pub mod people;
pub mod published;
pub mod style;

use crate::metrics::{About, Show};

/// The metrics to be shown of rows: those that are shown in `least` places, and are usual or have a value.
pub fn shown<T: csv::Row>(rows: &[T], least: Show) -> Vec<&'static About> {
    let has = |about: &About| rows.iter().filter_map(csv::Row::values).any(|values| values.has(about.name));
    let abouts = T::metrics().into_iter().map(|metric| metric.about());
    abouts.filter(|about| about.show >= least && (about.by_default || has(about))).collect()
}

/// The value, unless it is not a number or infinite: those mean "not measured".
pub fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}
