//! `toolkit export`.

use std::path::Path;

use anyhow::Result;

use super::print::say;
use crate::cli::{ExportCommand, Global};
use crate::error::Outcome;
use crate::report;

/// Where notebooks go, below the working folder.
const NOTEBOOKS: &str = "notebooks-export";

pub fn run(args: ExportCommand, _global: &Global) -> Result<Outcome> {
    let ExportCommand::Notebook(args) = args;
    say!("{}", report::notebook(&args.run, Path::new(NOTEBOOKS))?.display());
    Ok(Outcome::Done)
}
