//! Experiments: from a TOML file to a run folder.
//!
//! ```text
//! library ─► settings (profiles, --set) ─► Kind::plan ─► check ─► run: resume, lock, manifest, journal ─► results
//!                                                          stage: model after model, batch after batch
//! ```
//! [`mod@kind`] says what a kind of experiment is, [`KINDS`] which there are; [`style`] and [`caption`] hold what is
//! particular to each. A run folder holds `config.toml` (written first), `manifest.json`, `items.csv`, `results.csv`,
//! `plots/` and `report.html`. It can be continued after any stop, and the folders of shards can be merged into one.

pub mod caption;
mod choices;
mod describe;
mod embed;
pub mod extent;
pub mod folder;
pub mod forecast;
pub mod keys;
pub mod kind;
mod library;
pub mod manifest;
mod merge;
pub mod models;
mod profiles;
mod progress;
mod run;
pub mod schema;
pub mod serve;
pub mod settings;
pub mod shard;
pub mod shared;
pub mod stage;
pub mod standing;
pub mod style;
mod table;
mod template;

pub use kind::{Kind, Summary};
pub use library::{Found, built_in, find, kind_of};
pub use merge::{common_name, merge, merge_with};
pub use progress::Progress;
pub use run::{check, run};
pub use style::{Config, Plan};
pub use table::{AnyKind, Asked, Conclusion, KINDS, Planned, kind, named};
pub use template::template;

pub use crate::runtime::say_on_stop;
