//! The page, the plots, the galleries and the notebook of a style run, from its folder alone.

mod agreement;
pub mod causes;
mod comparisons;
mod effects;
mod export;
pub mod gallery;
pub mod grid;
mod notebook;
mod page;
pub mod people;
mod people_verdict;
mod plots;
mod rater_agreement;
mod run;
mod sheets;
mod verdict;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use run::StyleRun;

/// The metric by which strategies are ranked.
const DECIDING: &About = &artfid::ABOUT;
/// Its two halves, of which the plots draw one against the other: style reached and photo kept.
const STYLE: &About = &fid::ABOUT;
const PHOTO: &About = &lpips::ABOUT;

use super::folder::Folder;
use super::notebook::cells::NotebookCell;
use super::{Report, TrackedEntry};
use crate::metrics::About;
use crate::metrics::image::{artfid, fid, lpips};
use crate::report::figure::Figure;
use crate::report::plots::Sheet;
use crate::report::table::Results;

impl Report for StyleRun {
    fn folder(&self) -> &Folder {
        &self.folder
    }

    fn folder_mut(&mut self) -> &mut Folder {
        &mut self.folder
    }

    fn figures(&self, sheet: Sheet) -> Vec<(&'static str, Figure)> {
        plots::all(self, sheet)
    }

    fn sheets(&self) -> Result<Vec<PathBuf>> {
        sheets::write(self)
    }

    fn tables(&self) -> Vec<Results> {
        export::tables(self)
    }

    fn tracked(&self) -> Vec<TrackedEntry> {
        export::tracked(self)
    }

    fn html(&self) -> Result<String> {
        page::html(self)
    }

    fn cells(&self, folder: &Path) -> Result<Vec<NotebookCell>> {
        notebook::cells(self, folder)
    }
}
