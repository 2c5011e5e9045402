//! `toolkit compare`.

use std::path::Path;

use anyhow::Result;

use super::print::say;
use crate::cli::{CompareArgs, Global};
use crate::error::Outcome;
use crate::experiment::style::features::FeatureStore;
use crate::report::compare::{self, Features};

pub fn run(args: CompareArgs, _global: &Global) -> Result<Outcome> {
    let out = args.out.as_deref().unwrap_or(Path::new("."));
    for file in compare::write(&args.runs, out, &features)? {
        say!("{}", file.display());
    }
    Ok(Outcome::Done)
}

/// The features that a run kept; none where its folder was taken away.
fn features(run: &Path) -> Result<Option<Features>> {
    if !run.join("features").is_dir() {
        return Ok(None);
    }
    let (store, pictures) = FeatureStore::open(run)?;
    Ok(store.style()?.map(|style| Features { pictures, style }))
}
