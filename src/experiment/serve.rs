//! A worker of a run: it lays the plan out again, and computes the batches that it is given.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::kind::{Inputs, Kind, Work};
use super::models::Captioners;
use super::settings::Settings;
use crate::workers::Desk;

/// The part of a worker's task that an experiment is.
pub const TASK: &str = "experiment";

/// What a worker must know of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    experiment: Run,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    /// The kind of experiment.
    pub kind: String,
    /// The resolved configuration as TOML.
    config: String,
    dir: PathBuf,
    batch_size: usize,
    /// Of the plan.
    fingerprint: String,
    /// Whether the models have random weights.
    pub random_weights: bool,
}

impl Task {
    pub fn of<K: Kind>(work: &Work<K>) -> Result<Self> {
        Ok(Self {
            experiment: Run {
                kind: K::Config::KIND.to_string(),
                config: toml::to_string(work.config)?,
                dir: std::path::absolute(&work.folder.dir)?,
                batch_size: work.batch_size(),
                fingerprint: fingerprint::<K>(work.plan),
                random_weights: work.models.has_random_weights(),
            },
        })
    }
}

fn fingerprint<K: Kind>(plan: &K::Plan) -> String {
    let mut hash = Sha256::new();
    for part in K::fingerprint(plan) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("{:x}", hash.finalize())
}

/// Serves a run until its parent ends.
pub fn serve<K: Kind>(run: &Run, models: &K::Models, desk: &mut Desk) -> Result<()> {
    let config: K::Config = toml::from_str(&run.config).context("the task of a worker is damaged")?;
    config.shared().choose_rounding(&models.place().0);
    let plan = K::plan(&config)?;
    if fingerprint::<K>(&plan) != run.fingerprint {
        bail!("the pictures were changed while the run is going on: start it again");
    }
    K::serve(Inputs { plan: &plan, config: &config, dir: &run.dir, models, batch_size: run.batch_size }, desk)
}
