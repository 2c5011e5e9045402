//! `toolkit merge`.

use anyhow::{Result, bail};

use crate::cli::{Global, MergeArgs};
use crate::error::Outcome;

pub fn run(_args: MergeArgs, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
