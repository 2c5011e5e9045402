//! `toolkit merge`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::experiment::conclude;
use crate::cli::{Global, MergeArgs};
use crate::error::Outcome;
use crate::experiment::{common_name, kind, say_on_stop};
use crate::report;

pub fn run(args: MergeArgs, _global: &Global) -> Result<Outcome> {
    let out = match args.out {
        Some(out) => out,
        None => common_name(&args.runs[0])?,
    };
    say_on_stop(format!("\nstopped; {} is not written; the same command starts again\n", out.display()));
    let mut pages = Vec::new();
    let mut complete = |building: &Path| pages_of(building, &out).map(|drawn| pages = drawn);
    let conclusion = kind(&args.runs[0].join("config.toml"))?.merge(&args.runs, &out, &mut complete)?;
    conclude(&conclusion, &out, Ok(pages))
}

/// Makes the plots and the page in the folder that will be `out`; gives their places there.
fn pages_of(building: &Path, out: &Path) -> Result<Vec<PathBuf>> {
    let files = report::render_for(building, out).context("the plots and the page of the merged run")?;
    Ok(files.iter().map(|file| out.join(file.strip_prefix(building).unwrap_or(file))).collect())
}
