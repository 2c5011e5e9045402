//! `toolkit export`.

use anyhow::{Result, bail};

use crate::cli::{ExportCommand, Global};
use crate::error::Outcome;

pub fn run(_args: ExportCommand, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
