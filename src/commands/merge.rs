//! `toolkit merge`.

use anyhow::Result;

use super::experiment::conclude;
use crate::cli::{Global, MergeArgs};
use crate::error::Outcome;
use crate::experiment;

pub fn run(args: MergeArgs, _global: &Global) -> Result<Outcome> {
    let out = match args.out {
        Some(out) => out,
        None => experiment::common_name(&args.runs[0])?,
    };
    if experiment::kind_of(&args.runs[0].join("config.toml")).as_deref() == Some("caption") {
        let summary = experiment::caption::merge(&args.runs, &out)?;
        return super::experiment_captions::conclude(&summary, &out);
    }
    let summary = experiment::merge(&args.runs, &out)?;
    conclude(&summary, &out)
}
