//! `toolkit plot`.

use anyhow::{Result, bail};

use crate::cli::{Global, RunArgs};
use crate::error::Outcome;

pub fn run(_args: RunArgs, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
