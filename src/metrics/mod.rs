//! Metrics of pictures and captions.

pub mod image;
pub mod stats;
pub mod text;
