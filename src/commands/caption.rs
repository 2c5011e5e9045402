//! `toolkit caption`.

use anyhow::{Result, bail};

use crate::cli::{CaptionArgs, Global};
use crate::error::Outcome;

pub fn run(_args: CaptionArgs, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
