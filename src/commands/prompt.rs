//! `toolkit prompt`.

use anyhow::{Result, bail};

use crate::cli::{Global, PromptArgs};
use crate::error::Outcome;

pub fn run(_args: PromptArgs, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
