//! Experiments: from a TOML file to a run folder.
//!
//! ```text
//! config ─► plan ─► runner: describe ─► draw ─► record ─► results
//!                     │                           ▲
//!                   models (captioner, generator, judge)
//! ```
//! A run folder (see [`record`]) can be continued after any stop; shards of a run can be merged.

pub mod axis;
pub mod config;
mod describe;
mod draw;
pub mod features;
pub mod journal;
mod library;
pub mod manifest;
mod merge;
pub mod models;
pub mod plan;
mod progress;
pub mod record;
mod results;
mod runner;
mod stop;

pub use config::Config;
pub use library::{Found, built_in, find};
pub use merge::{common_name, merge};
pub use plan::Plan;
pub use progress::Progress;
pub use runner::{Summary, check, run};
pub use stop::say_on_stop;
