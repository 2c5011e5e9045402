//! Style experiments: photos described, drawn again in a style, and compared with photo and style.
//!
//! ```text
//! config ─► plan (axes → cells) ─► runner: describe ─► draw ─► record ─► results
//!                                    │                           ▲
//!                                  models (captioner, generator, judge)
//! ```
//! `config.toml`, `manifest.json`, `items.csv` and `results.csv` as in every run folder; also `captions.csv`,
//! `images/STRATEGY/ID.png` and `photos/ID.png` at the size of the comparison, `features/` (so that FID needs no picture
//! twice), `gallery/`, and with `keep_drawn` `drawn/STRATEGY/ID.png` at the size at which the pictures were drawn.

mod axes;
pub mod config;
mod describe;
mod draw;
pub mod features;
pub(in crate::experiment) mod merge;
pub mod models;
pub mod plan;
mod record;
mod results;
mod runner;

pub use axes::Axes;
pub use config::Config;
pub use merge::{common_name, merge, merge_with};
pub use plan::Plan;
pub use runner::{Summary, check, run};
