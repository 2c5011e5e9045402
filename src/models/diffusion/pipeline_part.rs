//! The parts of a pipeline, and their configurations among those that were published.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;

/// A part with weights: its folder and the name of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub folder: &'static str,
    pub stem: &'static str,
    /// Parameters of the published model.
    pub parameters: u64,
}

/// Names of weights → their shapes.
pub type Shapes = BTreeMap<String, Vec<i64>>;

/// What was published of a pipeline: configurations as JSON, by the name of the part.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    pub family: &'static str,
    /// Of one model, where it differs from the first of its family: as many parts as do.
    pub own: &'static str,
}

impl Published {
    /// The configuration of a part.
    pub fn config(&self, part: &str) -> Result<Value> {
        let mut own: Value = serde_json::from_str(self.own)?;
        match own.get_mut(part) {
            Some(config) => Ok(config.take()),
            None => published_config(self.family, part),
        }
    }
}

/// The configuration of a part among published ones.
pub fn published_config(published: &str, part: &str) -> Result<Value> {
    let mut all: Value = serde_json::from_str(published)?;
    match all.get_mut(part) {
        Some(config) => Ok(config.take()),
        None => bail!("no published configuration of {part}"),
    }
}
