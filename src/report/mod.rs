//! What a run folder holds as CSV, and everything made from it: plots, the page, the notebook.
//! Nothing here ever touches a model: a run folder is enough.
//!
//! ```text
//! items.csv, results.csv ─► run ─► plots ─► figure ─► plots/*.png, *.svg
//! config.toml, manifest.json ┘  └► gallery, page ───► report.html
//! ```
//! The same files give the same bytes.

pub mod csv;
mod figure;
pub mod files;
mod number;
mod plots;
pub mod rows;
mod run;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use run::Run;

/// Makes the plots and the page of a run folder. Returns the files it wrote.
pub fn render(run_dir: &Path) -> Result<Vec<PathBuf>> {
    plot(run_dir)
}

/// Draws the plots of a run folder into its `plots/`. Returns the files it wrote.
pub fn plot(run_dir: &Path) -> Result<Vec<PathBuf>> {
    plots::write(&Run::read(run_dir)?)
}
