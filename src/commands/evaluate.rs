//! `toolkit evaluate`.

use anyhow::{Result, bail};

use super::evaluate_captions;
use crate::cli::{EvaluateCommand, Global};
use crate::error::Outcome;

pub fn run(args: EvaluateCommand, global: &Global) -> Result<Outcome> {
    match args {
        EvaluateCommand::Captions(args) => evaluate_captions::run(&args, global),
        EvaluateCommand::Artfid(_) | EvaluateCommand::Fid(_) | EvaluateCommand::Lpips(_) => bail!("to be written"),
    }
}
