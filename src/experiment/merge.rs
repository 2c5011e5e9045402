//! One run folder out of the run folders of shards, for every kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::folder::{RunFolder, difference};
use super::kind::{Kind, Part, Summary};
use super::manifest::{Facts, Manifest};
use super::run::conclude;
use super::settings::Settings;
use super::shard::Shard;
use super::standing::is_free;
use crate::error::usage;
use crate::run::csv::read_growing;
use crate::run::guard;
use crate::run::layout::SUBMITTED;
use crate::run::people;
use crate::runtime::UNFINISHED;

/// Where the merged run goes when nobody says: the shards' name without the `-shard-I-of-N`.
pub fn common_name(first: &Path) -> Result<PathBuf> {
    let name = first.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.split_once("-shard-").map(|(stem, _)| stem).filter(|stem| !stem.is_empty());
    let stem =
        stem.ok_or_else(|| usage(format!("{}: its name says no common name: give --out DIR", first.display())))?;
    Ok(first.with_file_name(stem))
}

/// Merges finished shards, all of them, into a new folder `out`: rows, pictures and what else they keep are
/// taken over, and the results computed from them as an unsharded run does.
pub fn merge<K: Kind>(shards: &[PathBuf], out: &Path) -> Result<Summary<K>> {
    merge_with::<K>(shards, out, |_| Ok(()))
}

/// The same; `complete` adds to the folder, which it gets while that lies elsewhere, what else belongs there.
pub fn merge_with<K: Kind>(
    shards: &[PathBuf],
    out: &Path,
    complete: impl FnOnce(&Path) -> Result<()>,
) -> Result<Summary<K>> {
    let parts = shards.iter().map(|dir| read(dir)).collect::<Result<Vec<Part<K>>>>()?;
    let config = common(&parts)?;
    whole(out, |building| {
        let (summary, folder) = build(&parts, &config, building)?;
        complete(building)?;
        Ok((summary, folder))
    })
}

/// Has the run folder `out` built beside its place and then renamed: it is there whole or not at all. What an earlier
/// merge that was killed had begun is removed.
fn whole<T>(out: &Path, build: impl FnOnce(&Path) -> Result<(T, RunFolder)>) -> Result<T> {
    if !is_free(out)? {
        return Err(usage(format!("{} is there already: remove it, or choose another --out", out.display())));
    }
    guard::check(out)?;
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
    guard::remove_abandoned(parent)?;
    let building = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(parent)
        .with_context(|| format!("cannot write into {}", parent.display()))?;
    // The folder is held until it is in its place: another merge beside this one takes what nobody holds for abandoned.
    let (built, _held) = build(building.path())?;
    replace(out, building.path()).with_context(|| format!("cannot write {}", out.display()))?;
    // Nothing is left of it to remove.
    let _ = building.keep();
    Ok(built)
}

/// Puts the folder `building` in the place of `out`, with what was written there to submit the shards.
fn replace(out: &Path, building: &Path) -> std::io::Result<()> {
    let (there, here) = (out.join(SUBMITTED), building.join(SUBMITTED));
    if there.is_dir() {
        fs::rename(&there, &here)?;
    }
    let _ = fs::remove_dir(out);
    fs::rename(building, out).inspect_err(|_| {
        if here.is_dir() && fs::create_dir_all(out).is_ok() {
            let _ = fs::rename(&here, &there);
        }
    })
}

fn build<K: Kind>(parts: &[Part<K>], config: &K::Config, out: &Path) -> Result<(Summary<K>, RunFolder)> {
    let folder = RunFolder::open(out, config)?;
    folder.make("plots")?;
    let mut rows = Vec::new();
    for part in parts {
        rows.extend(read_growing::<K::Item>(&part.dir.join("items.csv"))?);
        for place in K::FOLDERS {
            take_over(&part.dir.join(place), &out.join(place))?;
        }
    }
    people::join(parts.iter().map(|part| part.dir.as_path()), out)?;
    let kept = K::join(&folder, config, parts)?;
    let facts: Vec<&Facts> = parts.iter().map(|part| &part.facts).collect();
    let facts = K::join_facts(parts[0].facts.clone(), &facts);
    let summary = conclude::<K>(&folder, config, &kept, rows, Manifest::known(facts))?;
    Ok((summary, folder))
}

fn read<K: Kind>(dir: &Path) -> Result<Part<K>> {
    let shown = dir.display();
    guard::check(dir)?;
    if !dir.join("config.toml").exists() {
        return Err(usage(format!("{shown} is no run folder: it has no config.toml")));
    }
    let config = K::Config::from_run(&dir.join("config.toml"))?;
    let facts = Facts::read(dir)?;
    if !facts.finished {
        return Err(usage(format!("{shown} is not finished: run its shard again with the same --out to continue it")));
    }
    Ok(Part { dir: dir.to_path_buf(), config, facts })
}

/// The configuration without the shard, when the parts are all shards of one run.
fn common<K: Kind>(parts: &[Part<K>]) -> Result<K::Config> {
    let Some(first) = parts.first() else { return Err(usage("no run folders to merge")) };
    let without_shard = |config: &K::Config| {
        let mut config = config.clone();
        config.shared_mut().shard = None;
        config
    };
    let whole = without_shard(&first.config);
    let mut found: BTreeMap<usize, &Part<K>> = BTreeMap::new();
    let mut of = 0;
    for part in parts {
        let shown = part.dir.display();
        let Some(shard) = part.config.shared().shard.as_deref().map(Shard::parse).transpose()? else {
            return Err(usage(format!("{shown} is no shard: it was run without --shard")));
        };
        let mut asked = without_shard(&part.config);
        asked.move_to_places_of(&whole);
        let limits = (whole.shared().limit != asked.shared().limit).then(|| "limit".to_string());
        if let Some(difference) = difference(&whole, &asked)?.or(limits) {
            return Err(usage(format!("{} and {shown} are of different runs: {difference}", first.dir.display())));
        }
        if of != 0 && shard.of != of {
            return Err(usage(format!("{shown} is one of {} shards, the others of {of}", shard.of)));
        }
        of = shard.of;
        if let Some(other) = found.insert(shard.part, part) {
            return Err(usage(format!("{} and {shown} are both shard {}/{of}", other.dir.display(), shard.part)));
        }
    }
    let missing: Vec<String> =
        (1..=of).filter(|part| !found.contains_key(part)).map(|part| format!("{part}/{of}")).collect();
    if !missing.is_empty() {
        return Err(usage(format!("shards are missing: {}", missing.join(", "))));
    }
    Ok(whole)
}

/// Links (or copies, across file systems) every file below `from` to `to`.
fn take_over(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to).with_context(|| format!("cannot make the folder {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type().with_context(|| format!("cannot look at {}", entry.path().display()))?;
        if kind.is_dir() {
            take_over(&entry.path(), &target)?;
        } else if !target.exists() && fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
