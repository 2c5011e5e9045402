//! `toolkit evaluate`.

use anyhow::Result;

use super::{evaluate_captions, evaluate_clip_score, evaluate_pictures};
use crate::cli::{Evaluate, EvaluateCommand, Global};
use crate::error::Outcome;

pub fn run(args: Evaluate, global: &Global) -> Result<Outcome> {
    let own = match args {
        Evaluate::Folders(metric, args) => return evaluate_pictures::folders(metric, &args, global),
        Evaluate::Own(own) => own,
    };
    match own {
        EvaluateCommand::Captions(args) => evaluate_captions::run(&args, global),
        EvaluateCommand::ClipScore(args) => evaluate_clip_score::run(&args, global),
        EvaluateCommand::Artfid(args) => evaluate_pictures::artfid(&args, global),
        EvaluateCommand::Lpips(args) => evaluate_pictures::lpips(&args, global),
    }
}
