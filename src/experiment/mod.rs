//! Experiments: from a TOML file to a run folder.
//!
//! What all kinds share is beside [`style`] and [`caption`], which hold what is particular to each.
//! A run folder holds `config.toml` (written first), `manifest.json`, `items.csv`, `results.csv`, `plots/` and
//! `report.html`. It can be continued after any stop, and the folders of shards can be merged into one.

pub mod caption;
mod choices;
pub mod folder;
mod library;
pub mod manifest;
mod profiles;
mod progress;
pub mod settings;
pub mod shard;
pub mod style;

pub use library::{Found, built_in, find, kind_of};
pub use progress::Progress;
pub use style::{Config, Plan, Summary, check, common_name, merge, merge_with, run};

pub use crate::runtime::say_on_stop;
