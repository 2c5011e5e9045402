//! Experiments: from a TOML file to a run folder.
//!
//! ```text
//! config ─► plan ─► runner: describe ─► draw ─► record ─► results
//!                     │                           ▲
//!                   models (captioner, generator, judge)
//! ```
//! [`caption`] holds the other kind of experiment: models × data sets, without drawing.
//! A run folder holds `config.toml` (written first), `manifest.json`, `captions.csv`, `items.csv`,
//! `results.csv`, `images/STRATEGY/ID.png` and `photos/ID.png` at the size of the comparison,
//! `features/` (so that FID needs no picture twice), `plots/`, `gallery/` and `report.html`; with `keep_drawn`
//! also `drawn/STRATEGY/ID.png` at the size at which the pictures were drawn. It can be continued
//! after any stop, and the folders of shards can be merged into one.

pub mod axis;
pub mod caption;
pub mod config;
mod describe;
mod draw;
pub mod features;
mod library;
pub mod manifest;
mod merge;
pub mod models;
pub mod plan;
mod profiles;
mod progress;
pub mod record;
mod results;
mod runner;
pub mod settings;
pub mod strength;

pub use config::Config;
pub use library::{Found, built_in, find, kind_of};
pub use merge::{common_name, merge, merge_with};
pub use plan::Plan;
pub use progress::Progress;
pub use runner::{Summary, check, run};

pub use crate::runtime::say_on_stop;
