//! `toolkit evaluate captions`.

use anyhow::{Result, bail};

use crate::cli::{CaptionsArgs, Global};
use crate::error::Outcome;

pub fn run(_args: &CaptionsArgs, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
