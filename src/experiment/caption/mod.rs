//! Caption experiments: models × data sets, from a TOML file to a run folder.
//!
//! ```text
//! config ─► plan (data sets opened) ─► runner: decode ahead ─► caption ─► items.csv ─► results
//! ```
//! ```text
//! config.toml, manifest.json, items.csv, results.csv as in every run folder
//! comparisons.csv              each two models on each data set, every metric
//! references/DATASET.json      what people wrote, as `evaluate captions` takes it
//! pictures/DATASET/ID.jpg      thumbnails, so that the report needs nothing else
//! ```

pub mod config;
mod merge;
pub mod models;
pub mod plan;
mod results;
mod runner;

pub use config::CaptionConfig;
pub use merge::{merge, merge_with};
pub use models::Captioners;
pub use plan::CaptionPlan;
pub use runner::{CaptionSummary, check, run};
