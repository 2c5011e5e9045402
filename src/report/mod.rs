//! What a run folder holds as CSV, and everything made from it: plots, the page, the notebook.
//! Nothing here ever touches a model: a run folder is enough.
//!
//! ```text
//! items.csv, results.csv ─► run ─► plots ─► figure ─► plots/*.png, *.svg
//! config.toml, manifest.json ┘  └► gallery ─► sheets ─► gallery/*.png
//!                                      └► page ───► report.html
//! ```
//! The same files give the same bytes.

pub mod caption;
pub mod causes;
pub mod contact_sheet;
pub mod csv;
mod figure;
pub mod gallery;
mod notebook;
mod number;
mod page;
mod plots;
pub mod rows;
mod run;
mod sheets;
mod thumbnails;
mod verdict;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::runtime::write_whole;

pub use run::Run;

/// Makes the plots, the gallery sheets and the page of a run folder. Returns the files it wrote.
pub fn render(run_dir: &Path) -> Result<Vec<PathBuf>> {
    if caption::is_caption(run_dir) {
        return caption::render(run_dir);
    }
    let run = Run::read(run_dir)?;
    let mut files = plots::write(&run)?;
    files.extend(sheets::write(&run)?);
    files.push(page::write(&run)?);
    Ok(files)
}

/// Draws the plots of a run folder into its `plots/`. Returns the files it wrote.
pub fn plot(run_dir: &Path) -> Result<Vec<PathBuf>> {
    if caption::is_caption(run_dir) {
        return caption::plot(run_dir);
    }
    plots::write(&Run::read(run_dir)?)
}

/// Writes `report.html` of a run folder, without touching its `plots/`. Returns the file.
pub fn page(run_dir: &Path) -> Result<PathBuf> {
    if caption::is_caption(run_dir) {
        return caption::page(run_dir);
    }
    page::write(&Run::read(run_dir)?)
}

/// Lays the galleries of a style run out as pictures, `gallery/STRATEGY-successes.png` and `-failures.png`; none of
/// a caption run, and none where the pictures are gone. Returns the files it wrote.
pub fn gallery_sheets(run_dir: &Path) -> Result<Vec<PathBuf>> {
    if caption::is_caption(run_dir) {
        return Ok(Vec::new());
    }
    sheets::write(&Run::read(run_dir)?)
}

/// Writes a run folder as a Jupyter notebook, `NAME.ipynb` in `folder`. Returns the file.
pub fn notebook(run_dir: &Path, folder: &Path) -> Result<PathBuf> {
    if caption::is_caption(run_dir) {
        return caption::notebook(run_dir, folder);
    }
    notebook::write(&Run::read(run_dir)?, folder)
}

/// Puts `bytes` at `path`, whole or not at all, making its folder first.
fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    write_whole(path, |file| Ok(file.write_all(bytes)?))
}
