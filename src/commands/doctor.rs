//! `toolkit doctor`.

use anyhow::{Result, bail};

use crate::cli::{DoctorArgs, Global};
use crate::error::Outcome;

pub fn run(_args: DoctorArgs, _global: &Global) -> Result<Outcome> {
    bail!("to be written")
}
