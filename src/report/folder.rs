//! What a run folder says of itself, whatever kind of run it holds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::published::Published;

/// A run folder: its place, its configuration and its manifest.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    pub dir: PathBuf,
    /// Where it will lie, if elsewhere than now.
    place: Option<PathBuf>,
    /// The folder's own name.
    pub name: String,
    /// The resolved configuration as it was written, and parsed.
    pub config_text: Option<String>,
    pub config: toml::Table,
    pub manifest: serde_json::Value,
}

impl Folder {
    /// config.toml and manifest.json tell of the run; they may be missing, not damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut folder = Self { dir: dir.to_path_buf(), name: folder_name(dir), ..Self::default() };
        let config = dir.join("config.toml");
        if config.exists() {
            let text = std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
            folder.config = text.parse().with_context(|| format!("{} is not TOML", config.display()))?;
            folder.config_text = Some(text);
        }
        let manifest = dir.join("manifest.json");
        if manifest.exists() {
            let text = std::fs::read(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
            folder.manifest =
                serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", manifest.display()))?;
        }
        Ok(folder)
    }

    /// Has the folder spoken of as one that lies at `place`, where it will be moved.
    pub fn will_lie_at(&mut self, place: &Path) {
        if place != self.dir {
            (self.name, self.place) = (folder_name(place), Some(place.to_path_buf()));
        }
    }

    /// A text of the configuration; empty where there is none.
    pub fn setting(&self, key: &str) -> &str {
        self.config.get(key).and_then(|value| value.as_str()).unwrap_or_default()
    }

    /// Results published elsewhere, as the configuration has them.
    pub fn published(&self) -> Result<Vec<Published>> {
        let Some(published) = self.config.get("published") else { return Ok(Vec::new()) };
        let file = self.dir.join("config.toml");
        published.clone().try_into().with_context(|| format!("{}: published", file.display()))
    }

    /// What the run is called: by its configuration, else as its folder.
    pub fn title(&self) -> &str {
        let named = self.setting("name");
        if named.is_empty() { &self.name } else { named }
    }

    /// The manifest to be read by people.
    pub fn manifest_text(&self) -> Result<Option<String>> {
        Ok((!self.manifest.is_null()).then(|| serde_json::to_string_pretty(&self.manifest)).transpose()?)
    }

    /// Whether the run says that it did not come to its end.
    pub fn is_unfinished(&self) -> bool {
        self.manifest.get("finished").and_then(|finished| finished.as_bool()) == Some(false)
    }

    /// The folder as one would type it: relative where it lies below the working folder. The same
    /// however it was named this time.
    pub fn shown_dir(&self) -> String {
        let whole = real(self.place.as_ref().unwrap_or(&self.dir));
        let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
        match whole.strip_prefix(here) {
            Ok(below) if !below.as_os_str().is_empty() => below.display().to_string(),
            _ => whole.display().to_string(),
        }
    }
}

/// The path without links on the way, also of a folder that is not there yet.
fn real(dir: &Path) -> PathBuf {
    let parent = dir.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let below_parent = || Some(parent?.canonicalize().ok()?.join(dir.file_name()?));
    dir.canonicalize().ok().or_else(below_parent).unwrap_or_else(|| dir.to_path_buf())
}

/// `runs/x` and `.` both have a name.
fn folder_name(dir: &Path) -> String {
    let named = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    named(dir).or_else(|| named(&dir.canonicalize().ok()?)).unwrap_or_else(|| "run".to_string())
}
