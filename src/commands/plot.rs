//! `toolkit plot`.

use anyhow::Result;

use super::print::say;
use crate::cli::{Global, RunArgs};
use crate::error::Outcome;
use crate::report;

pub fn run(args: RunArgs, _global: &Global) -> Result<Outcome> {
    for file in report::plot(&args.run)? {
        say!("{}", file.display());
    }
    Ok(Outcome::Done)
}
