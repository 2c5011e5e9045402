//! `toolkit experiment`.

use anyhow::{Result, bail};

use crate::cli::{ExperimentArgs, Global};
use crate::error::Outcome;

pub fn run(_args: ExperimentArgs, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
