//! What the configurations of all kinds of experiments have in common.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::profiles::syntax;
use crate::error::usage;

/// A resolved configuration, as `config.toml` of a run folder holds it.
pub trait Settings: Serialize + DeserializeOwned + Clone {
    /// This configuration (a run folder's) with everything as in `asked` that may change without changing results: a run
    /// goes on when the rest is the same. A greater limit continues a run, other metrics are computed from what is
    /// there, and the batch size is no part of what is asked.
    fn but_for_what_may_change(&self, asked: &Self) -> Self;

    /// Reads the `config.toml` of a run folder.
    fn from_run(file: &Path) -> Result<Self> {
        let name = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        toml::from_str(&text)
            .map_err(|error| usage(format!("{name} is not a run's configuration: {}", syntax(&text, &error))))
    }
}
