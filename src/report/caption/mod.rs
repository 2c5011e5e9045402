//! The page and the plots of a caption run, from its folder alone.

mod cases;
mod length;
mod notebook;
mod page;
pub mod rows;
mod run;
mod scores;
mod tables;
mod verdict;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use run::CaptionRun;

use super::figure::Figure;
use super::{plots, save};

/// Whether a folder holds a caption run rather than a style run.
pub(super) fn is_caption(dir: &Path) -> bool {
    let kind = std::fs::read_to_string(dir.join("config.toml")).ok().and_then(|text| {
        let keys: toml::Table = text.parse().ok()?;
        Some(keys.get("kind")?.as_str()? == "caption")
    });
    kind.unwrap_or_else(|| {
        let header = csv::Reader::from_path(dir.join("results.csv")).and_then(|mut reader| reader.headers().cloned());
        header.is_ok_and(|header| header.iter().any(|column| column == "dataset"))
    })
}

/// Makes the plots and the page. Returns the files.
pub fn render(dir: &Path) -> Result<Vec<PathBuf>> {
    let run = CaptionRun::read(dir)?;
    let mut files = plots::write_all(&run.origin.dir, &figures(&run))?;
    files.push(write_page(&run)?);
    Ok(files)
}

pub(super) fn plot(dir: &Path) -> Result<Vec<PathBuf>> {
    plots::write_all(dir, &figures(&CaptionRun::read(dir)?))
}

pub(super) fn page(dir: &Path) -> Result<PathBuf> {
    write_page(&CaptionRun::read(dir)?)
}

/// Writes the run as a notebook into `folder`. Returns the file.
pub(super) fn notebook(dir: &Path, folder: &Path) -> Result<PathBuf> {
    notebook::write(&CaptionRun::read(dir)?, folder)
}

/// The plots in the order in which the page shows them: file stem and figure.
fn figures(run: &CaptionRun) -> Vec<(&'static str, Figure)> {
    vec![("scores", scores::figure(run)), ("length", length::figure(run))]
}

fn write_page(run: &CaptionRun) -> Result<PathBuf> {
    let path = run.origin.dir.join("report.html");
    save(&path, page::html(run)?.as_bytes())?;
    Ok(path)
}
