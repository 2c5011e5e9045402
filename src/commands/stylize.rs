//! `toolkit stylize`.

use anyhow::{Result, bail};

use crate::cli::{Global, StylizeArgs};
use crate::error::Outcome;

pub fn run(_args: StylizeArgs, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
