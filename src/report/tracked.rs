//! What a run folder tells an experiment tracker: an entry a strategy, or a model and data set, with its metrics and settings.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use toml::Value;

use super::folder::Folder;
use crate::metrics::{METRICS, Values};

/// Keys of a configuration that are no settings of one entry: axes, models and data sets are in the entries themselves.
const NO_SETTINGS: [&str; 6] = ["axes", "models", "datasets", "published", "name", "question"];

/// A run for a tracker.
#[derive(Debug, Clone, Default)]
pub struct TrackedRun {
    /// What the run is called, and what it asks.
    pub title: String,
    pub question: String,
    /// The folder as one would type it.
    pub folder: String,
    /// Tells this run from others, wherever its folder lies: of its configuration and of when it was started.
    pub id: String,
    /// When it was started, in seconds since 1970, if that is known.
    pub started: Option<u64>,
    /// The version of this program that made it.
    pub version: String,
    /// The table of results and the page.
    pub files: Vec<PathBuf>,
    pub entries: Vec<TrackedEntry>,
}

/// What was measured together.
#[derive(Debug, Clone, Default)]
pub struct TrackedEntry {
    pub name: String,
    /// By their names, finite all of them.
    pub metrics: Vec<(String, f64)>,
    pub settings: Vec<(String, String)>,
}

impl TrackedRun {
    /// The entries with what the folder says of all of them.
    pub(super) fn new(folder: &Folder, mut entries: Vec<TrackedEntry>) -> Self {
        let of_manifest = |key: &str| folder.manifest.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        let started = folder.manifest.get("started").and_then(|started| started.as_u64());
        let mut settings = Vec::new();
        folder.config.iter().filter(|(key, _)| !NO_SETTINGS.contains(&key.as_str())).for_each(|(key, value)| {
            flatten(key, value, &mut settings);
        });
        settings.extend(["device", "dtype"].map(|key| (key.to_string(), of_manifest(key).to_string())));
        for entry in &mut entries {
            let own = |key: &str| entry.settings.iter().any(|(own, _)| own == key);
            let shared: Vec<_> = settings.iter().filter(|(key, text)| !text.is_empty() && !own(key)).cloned().collect();
            entry.settings.extend(shared);
        }
        let id = format!("{}\n{started:?}", folder.config_text.as_deref().unwrap_or(&folder.name));
        Self {
            title: folder.title().to_string(),
            question: folder.setting("question").to_string(),
            folder: folder.shown_dir(),
            id: format!("{:x}", Sha256::digest(id))[..16].to_string(),
            started,
            version: of_manifest("toolkit").to_string(),
            files: files(&folder.dir),
            entries,
        }
    }
}

impl TrackedEntry {
    /// Takes what was measured; what was not, or is no finite number, is left out.
    pub(super) fn measured(&mut self, values: &Values) {
        for about in METRICS.iter().map(|metric| metric.about()) {
            let value = values.get(about.name);
            self.number(about.name, value.value);
            self.number(&about.low(), value.low);
            self.number(&about.high(), value.high);
        }
    }

    pub(super) fn number(&mut self, name: &str, value: Option<f64>) {
        self.metrics.extend(value.filter(|value| value.is_finite()).map(|value| (name.to_string(), value)));
    }

    pub(super) fn setting(&mut self, name: &str, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.settings.push((name.to_string(), text));
        }
    }
}

/// Those of the two that are there; the page can be made again.
fn files(dir: &Path) -> Vec<PathBuf> {
    ["results.csv", "report.html"].map(|name| dir.join(name)).into_iter().filter(|file| file.is_file()).collect()
}

/// A value of the configuration under its dotted key; a list in one line.
fn flatten(key: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Table(table) => table.iter().for_each(|(name, value)| flatten(&format!("{key}.{name}"), value, into)),
        Value::String(text) => into.push((key.to_string(), text.clone())),
        other => into.push((key.to_string(), other.to_string())),
    }
}
