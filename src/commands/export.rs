//! `toolkit export`.

use anyhow::Result;

use super::print::say;
use crate::cli::{ExportCommand, Global};
use crate::error::Outcome;
use crate::report;

pub fn run(args: ExportCommand, _global: &Global) -> Result<Outcome> {
    let ExportCommand::Notebook(args) = args;
    say!("{}", report::notebook(&args.run, args.out.as_deref())?.display());
    Ok(Outcome::Done)
}
