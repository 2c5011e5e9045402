//! `toolkit merge`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::experiment::conclude;
use crate::cli::{Global, MergeArgs};
use crate::cluster::log_of;
use crate::error::{Outcome, usage};
use crate::experiment::shard::Shard;
use crate::experiment::standing::is_finished;
use crate::experiment::{common_name, kind, say_on_stop};
use crate::report;
use crate::run::layout::SUBMITTED;

pub fn run(args: MergeArgs, _global: &Global) -> Result<Outcome> {
    let out = match args.out {
        Some(out) => out,
        None => common_name(&args.runs[0])?,
    };
    all_ended(&args.runs, &out)?;
    say_on_stop(format!("\nstopped; {} is not written; the same command starts again\n", out.display()));
    let mut pages = Vec::new();
    let mut complete = |building: &Path| pages_of(building, &out).map(|drawn| pages = drawn);
    let conclusion = kind(&args.runs[0].join("config.toml"))?.merge(&args.runs, &out, &mut complete)?;
    conclude(&conclusion, &out, Ok(pages))
}

/// Of shards that were submitted to a cluster, refuses those that never began or have not ended, all at once and with
/// their logs.
fn all_ended(shards: &[PathBuf], out: &Path) -> Result<()> {
    if !out.join(SUBMITTED).is_dir() {
        return Ok(());
    }
    let missing = |dir: &PathBuf| {
        let what = match (dir.join("config.toml").exists(), is_finished(dir)) {
            (_, true) => return None,
            (true, false) => "is not finished",
            (false, false) => "has not begun",
        };
        let log = Shard::of_folder(dir).map(|shard| log_of(out, shard.part));
        let log = log.map_or("no log".to_string(), |log| format!("log {}", log.display()));
        Some(format!("{} {what} ({log})", dir.display()))
    };
    let missing: Vec<String> = shards.iter().filter_map(missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(usage(format!("not merged: {}; the same `toolkit submit` goes on with them", missing.join(", "))))
}

/// Makes the plots and the page in the folder that will be `out`; gives their places there.
fn pages_of(building: &Path, out: &Path) -> Result<Vec<PathBuf>> {
    let files = report::render_for(building, out).context("the plots and the page of the merged run")?;
    Ok(files.iter().map(|file| out.join(file.strip_prefix(building).unwrap_or(file))).collect())
}
