//! `toolkit evaluate`.

use anyhow::Result;

use super::{evaluate_captions, evaluate_pictures};
use crate::cli::{EvaluateCommand, Global};
use crate::error::Outcome;

pub fn run(args: EvaluateCommand, global: &Global) -> Result<Outcome> {
    match args {
        EvaluateCommand::Captions(args) => evaluate_captions::run(&args, global),
        EvaluateCommand::Artfid(args) => evaluate_pictures::artfid(&args, global),
        EvaluateCommand::Fid(args) => evaluate_pictures::fid(&args, global),
        EvaluateCommand::Lpips(args) => evaluate_pictures::lpips(&args, global),
    }
}
