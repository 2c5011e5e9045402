//! `toolkit bench`.

use anyhow::{Result, bail};

use crate::cli::{BenchArgs, Global};
use crate::error::Outcome;

pub fn run(_args: BenchArgs, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
