//! What a run would do, before anything is loaded or written: `experiment --dry-run`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use indicatif::DecimalBytes;
use serde::Serialize;

use super::extent::DataSource;
use super::kind::Kind;
use super::models::{Captioners, Needed, OnThisMachine, Role};
use super::settings::Settings;
use super::standing::{Standing, standing};
use crate::error::UsageError;
use crate::models::MODELS;
use crate::runtime::files_below;
use crate::runtime::machine::disk_free;

/// What a run would do.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    pub experiment: String,
    pub kind: &'static str,
    pub profile: String,
    /// The run folder.
    pub out: PathBuf,
    /// How far it is: `new`, `unfinished` (it goes on) or `finished`.
    pub state: &'static str,
    pub strategies: Vec<String>,
    /// Photos, or pictures of all data sets.
    pub photos: usize,
    /// Pictures or captions to be made, those that are there already included.
    pub items: usize,
    /// What they are called.
    pub items_are: &'static str,
    pub data: Vec<DataSource>,
    pub models: Vec<ModelState>,
    pub metrics: Vec<&'static str>,
    /// What is to be downloaded, about; none where it is not known of a model.
    pub download_bytes: Option<u64>,
    /// What the run folder comes to, at most.
    pub disk_bytes: u64,
    /// What can be written where it will be.
    pub disk_free_bytes: Option<u64>,
}

/// A model, and whether it is there.
#[derive(Debug, Clone, Serialize)]
pub struct ModelState {
    pub name: String,
    /// What it is for.
    pub role: &'static str,
    pub found: bool,
    pub path: Option<PathBuf>,
    /// Of its files, or, about, what is to be downloaded; none where that is not known.
    pub bytes: Option<u64>,
}

/// Looks at what a run would use; what is wrong with it beside missing models is wrong usage, as when it is run.
pub fn forecast<K: Kind>(plan: &K::Plan, config: &K::Config, out: &Path, machine: &OnThisMachine) -> Result<Forecast> {
    let state = match standing(out, config)? {
        Standing::Absent => "new",
        Standing::Unfinished => "unfinished",
        Standing::Finished => "finished",
    };
    K::probe(plan, config)?;
    let models = K::needs(config).iter().map(|needed| look(needed, machine)).collect::<Result<Vec<_>>>()?;
    if models.iter().all(|model| model.found) {
        K::check(plan, config, K::on(machine))?;
    } else {
        tracing::warn!(
            "what the missing models must be asked about (sizes, instructions, token limits) is not checked"
        );
    }
    let extent = K::extent(plan, config, K::on(machine));
    let shared = config.shared();
    Ok(Forecast {
        experiment: shared.name.clone(),
        kind: K::Config::KIND,
        profile: shared.profile.clone(),
        out: out.to_path_buf(),
        state,
        strategies: extent.strategies,
        photos: extent.data.iter().filter(|source| source.is_item).map(|source| source.pictures).sum(),
        items: K::items(plan),
        items_are: K::ITEMS,
        data: extent.data,
        download_bytes: download(&models),
        models,
        metrics: extent.metrics,
        disk_bytes: extent.bytes,
        disk_free_bytes: disk_free(out),
    })
}

fn look(needed: &Needed, machine: &OnThisMachine) -> Result<ModelState> {
    let role = match needed.role {
        Role::Captioner => "captioner",
        Role::Generator => "generator",
        Role::Lora => "lora",
        Role::ControlNet => "controlnet",
        Role::IpAdapter => "ip_adapter",
        Role::IpImages => "ip_images",
        Role::Inception => "inception",
        Role::LpipsBackbone => "lpips_backbone",
        Role::LpipsLinear => "lpips_linear",
        Role::Network(network) => network.model(),
    };
    let state = |path: Option<PathBuf>, bytes| ModelState {
        name: needed.name.clone(),
        role,
        found: path.is_some(),
        path,
        bytes,
    };
    match machine.find(needed) {
        Ok(path) => {
            let size = |file: &PathBuf| std::fs::metadata(file).map_or(0, |file| file.len());
            let bytes = files_below(&path).ok().map(|files| files.iter().map(size).sum());
            Ok(state(Some(path), bytes))
        }
        Err(error) if error.is::<UsageError>() => Err(error),
        Err(error) => {
            tracing::debug!("{error:#}");
            let entry = MODELS.iter().find(|entry| entry.name == needed.name);
            Ok(state(None, entry.map(|entry| entry.megabytes * 1_000_000)))
        }
    }
}

/// What the missing models come to, each once.
fn download(models: &[ModelState]) -> Option<u64> {
    let mut names = BTreeSet::new();
    let missing = models.iter().filter(|model| !model.found && names.insert(&model.name));
    missing.map(|model| model.bytes).sum()
}

impl Forecast {
    /// As lines for people.
    pub fn lines(&self) -> Vec<String> {
        let Self { experiment, profile, strategies, photos, items, items_are, .. } = self;
        let several = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        let mut rows = vec![(
            "run".to_string(),
            format!(
                "{experiment}, profile {profile}: {} x {} = {items} {items_are}",
                several(strategies.len(), "strategy", "strategies"),
                several(*photos, "photo", "photos"),
            ),
        )];
        let state = match self.state {
            "new" => "",
            "finished" => " (finished: nothing is left to do)",
            _ => " (there already: the run goes on)",
        };
        rows.push(("out".to_string(), format!("{}{state}", self.out.display())));
        rows.push(("strategies".to_string(), strategies.join(", ")));
        for source in &self.data {
            let of = if source.found == source.pictures { String::new() } else { format!(" of {}", source.found) };
            rows.push((source.name.clone(), format!("{}{of} in {}", source.pictures, source.path.display())));
        }
        for model in &self.models {
            let bytes = model.bytes.map(|bytes| DecimalBytes(bytes).to_string());
            let state = match (&model.path, bytes) {
                (Some(path), Some(bytes)) => format!("here, {bytes}, {}", path.display()),
                (Some(path), None) => format!("here, {}", path.display()),
                (None, Some(bytes)) => {
                    format!("missing: about {bytes} to download (toolkit models pull {})", model.name)
                }
                (None, None) => "missing: to be downloaded, its size is not known".to_string(),
            };
            rows.push((model.role.to_string(), format!("{}: {state}", model.name)));
        }
        rows.push(("metrics".to_string(), self.metrics.join(", ")));
        rows.push(("download".to_string(), self.download_shown()));
        let free = self.disk_free_bytes.map(|free| format!(", {} are free there", DecimalBytes(free)));
        let disk = format!("at most {}{}", DecimalBytes(self.disk_bytes), free.unwrap_or_default());
        rows.push(("disk".to_string(), disk));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        rows.into_iter().map(|(name, text)| format!("{name:width$}  {text}")).collect()
    }

    fn download_shown(&self) -> String {
        match self.download_bytes {
            Some(0) => "nothing".to_string(),
            Some(bytes) => format!("about {}", DecimalBytes(bytes)),
            None => "of unknown size".to_string(),
        }
    }
}
