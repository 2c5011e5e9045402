//! `toolkit models`.

use anyhow::{Result, bail};

use crate::cli::{Global, ModelsCommand};
use crate::error::Outcome;

pub fn run(_args: ModelsCommand, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
