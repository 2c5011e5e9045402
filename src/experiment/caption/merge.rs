//! One caption run out of its shards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::config::CaptionConfig;
use super::plan::voices;
use super::runner::{CaptionSummary, References, finish, save_references};
use crate::error::usage;
use crate::experiment::folder::{RunFolder, difference};
use crate::experiment::manifest::{Facts, Manifest};
use crate::experiment::settings::Settings;
use crate::experiment::shard::Shard;
use crate::experiment::style::merge::{take_over, whole};
use crate::run::caption::CaptionItem;
use crate::run::csv::read_growing;
use crate::run::guard;

/// Puts the shards of one caption run together in `out`, which must not be there.
pub fn merge(dirs: &[PathBuf], out: &Path) -> Result<CaptionSummary> {
    merge_with(dirs, out, |_| Ok(()))
}

/// The same; `complete` adds to the folder, which it gets while that lies elsewhere, what else belongs there.
pub fn merge_with(dirs: &[PathBuf], out: &Path, complete: impl FnOnce(&Path) -> Result<()>) -> Result<CaptionSummary> {
    let config = common(dirs)?;
    whole(out, |building| {
        let summary = build(dirs, &config, building)?;
        complete(building)?;
        Ok(summary)
    })
}

fn build(dirs: &[PathBuf], config: &CaptionConfig, out: &Path) -> Result<CaptionSummary> {
    let facts: Vec<Facts> = dirs.iter().map(|dir| Facts::read(dir)).collect::<Result<_>>()?;
    if let Some((dir, _)) = dirs.iter().zip(&facts).find(|(_, facts)| !facts.finished) {
        let shown = dir.display();
        return Err(usage(format!("{shown} is not finished: run its shard again with the same --out to continue it")));
    }
    let mut rows: Vec<CaptionItem> = Vec::new();
    let mut references = References::new();
    for dir in dirs {
        rows.extend(read_growing::<CaptionItem>(&dir.join("items.csv"))?);
        for (name, _) in &config.datasets.0 {
            let path = dir.join(format!("references/{name}.json"));
            let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let of: BTreeMap<String, Vec<String>> =
                serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
            references.entry(name.clone()).or_default().extend(of);
        }
    }
    let folder = RunFolder::open(out, config)?;
    folder.make("plots")?;
    for dir in dirs {
        take_over(&dir.join("pictures"), &folder.path("pictures"))?;
    }
    save_references(&folder, &references)?;
    let mut known = facts[0].clone();
    for data_set in &mut known.data_sets {
        let same = facts.iter().flat_map(|facts| &facts.data_sets).filter(|other| other.name == data_set.name);
        data_set.pictures = same.map(|other| other.pictures).sum();
    }
    let names: Vec<&str> = config.datasets.0.iter().map(|(name, _)| name.as_str()).collect();
    finish(&folder, config, &voices(config)?, &names, rows, &references, Manifest::known(known))
}

/// The configuration without the shard, when the folders are all shards of one run.
fn common(dirs: &[PathBuf]) -> Result<CaptionConfig> {
    let mut found: BTreeMap<usize, &PathBuf> = BTreeMap::new();
    let mut first: Option<(CaptionConfig, usize)> = None;
    for dir in dirs {
        let shown = dir.display();
        guard::check(dir)?;
        let config = CaptionConfig::from_run(&dir.join("config.toml"))?;
        let Some(shard) = config.shard.as_deref().map(Shard::parse).transpose()? else {
            return Err(usage(format!("{shown} is no shard: it was run without --shard")));
        };
        let whole = CaptionConfig { shard: None, ..config };
        let (one, of) = first.get_or_insert_with(|| (whole.clone(), shard.of));
        // Shards may have run on different machines, with the pictures elsewhere.
        let mut asked = whole;
        for ((_, asked), (_, one)) in asked.datasets.0.iter_mut().zip(&one.datasets.0) {
            (asked.path, asked.images) = (one.path.clone(), one.images.clone());
        }
        let limits = (one.limit != asked.limit).then(|| "limit".to_string());
        if let Some(difference) = difference(one, &asked)?.or(limits) {
            return Err(usage(format!("{} and {shown} are of different runs: {difference}", dirs[0].display())));
        }
        if shard.of != *of {
            return Err(usage(format!("{shown} is one of {} shards, the others of {of}", shard.of)));
        }
        if let Some(other) = found.insert(shard.part, dir) {
            return Err(usage(format!("{} and {shown} are both shard {}/{of}", other.display(), shard.part)));
        }
    }
    let Some((config, of)) = first else { return Err(usage("no run folders to merge")) };
    let missing: Vec<String> =
        (1..=of).filter(|part| !found.contains_key(part)).map(|part| format!("{part}/{of}")).collect();
    if !missing.is_empty() {
        return Err(usage(format!("shards are missing: {}", missing.join(", "))));
    }
    Ok(config)
}
