//! Where a model folder says how its pictures are prepared.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use crate::checkpoints::config;

/// The section of an image processor, and the file that it is in. transformers 5 keeps it in `processor_config.json`
/// beside other sections, which counts first there; earlier versions have a `preprocessor_config.json` of its own. None
/// where a folder has neither.
pub fn image_processor(folder: &Path) -> Result<Option<(PathBuf, Value)>> {
    let nested = folder.join("processor_config.json");
    if nested.is_file() {
        let mut file: Value = config::read(&nested)?;
        if let Some(section) = file.get_mut("image_processor").map(Value::take).filter(Value::is_object) {
            return Ok(Some((nested, section)));
        }
    }
    let own = folder.join("preprocessor_config.json");
    if !own.is_file() {
        return Ok(None);
    }
    let section = config::read(&own)?;
    Ok(Some((own, section)))
}
