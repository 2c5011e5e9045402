//! `toolkit evaluate`.

use anyhow::{Result, bail};

use crate::cli::{EvaluateCommand, Global};
use crate::error::Outcome;

pub fn run(_args: EvaluateCommand, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
