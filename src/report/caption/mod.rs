//! The page, the plots and the notebook of a caption run, from its folder alone.

mod agreement;
mod cases;
mod export;
mod length;
mod notebook;
mod page;
mod run;
mod scores;
mod tables;
mod verdict;

use std::path::Path;

use anyhow::Result;

pub use run::CaptionRun;

/// The metric that says which model is best, and which pictures stand for a data set.
const DECIDING: &str = "meteor";
/// What is said of single captions, the deciding one first.
const OF_CASES: [&str; 4] = [DECIDING, "bleu", "rouge1", "cider"];
/// What is held against the length of captions.
const AGAINST_LENGTH: [&str; 2] = ["bleu", DECIDING];

use super::figure::Figure;
use super::folder::Folder;
use super::notebook::cells::NotebookCell;
use super::plots::Sheet;
use super::table::Results;
use super::{Report, TrackedEntry};

impl Report for CaptionRun {
    fn folder(&self) -> &Folder {
        &self.folder
    }

    fn folder_mut(&mut self) -> &mut Folder {
        &mut self.folder
    }

    fn figures(&self, sheet: Sheet) -> Vec<(&'static str, Figure)> {
        vec![("scores", scores::figure(self, sheet)), ("length", length::figure(self, sheet))]
    }

    fn tables(&self) -> Vec<Results> {
        vec![export::results(self)]
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
