//! The parts of a pipeline, and their configurations among those that were published.

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

/// The configuration of a part among published ones.
pub fn published_config(published: &str, part: &str) -> Result<Value> {
    let mut all: Value = serde_json::from_str(published)?;
    match all.get_mut(part) {
        Some(config) => Ok(config.take()),
        None => bail!("no published configuration of {part}"),
    }
}
