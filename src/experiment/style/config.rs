//! The configuration of an experiment, as TOML and resolved.
//!
//! ```toml
//! name = "style_ablation"
//! kind = "style_transfer"
//! question = "Which style text comes closest to the style?"
//!
//! [axes]                      # what has several values multiplies the strategies
//! seed = [0, 1]
//! [axes.style_text]
//! plain = "Peanuts comic style"
//!
//! [profiles.mini]             # any key below, and any axis
//! photos = "mini/photos"
//! captioner = "mini-phi-4-multimodal"
//! ```
//! Keys outside the profiles hold for all profiles; a profile's keys win, `--set` wins over both.
//! Relative paths are looked for beside the TOML file, in the working folder, in the repository.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::strength::Strength;
use crate::error::usage;
use crate::experiment::axis::Axis;
use crate::experiment::profiles::{
    Profiles, assignment, check_run_name, explain, locate, positive, shown, unknown_key,
};
use crate::experiment::settings::Settings;
use crate::metrics::image::artfid::Mode;
use crate::metrics::{check_names, of_pictures};
use crate::schedulers::SchedulerName;

/// What an experiment does with the photos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Describe, compose a prompt, draw, compare with photo and style.
    StyleTransfer,
}

/// A resolved configuration: what `config.toml` of a run folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub name: String,
    pub kind: Kind,
    /// What the experiment asks, in one sentence.
    #[serde(default)]
    pub question: String,
    #[serde(default)]
    pub profile: String,
    /// The folder of photos.
    pub photos: PathBuf,
    /// The folder of pictures in the style to reach.
    pub style_pictures: PathBuf,
    /// Only the first photos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only part I of N: `I/N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// Side of the square at which pictures are compared, in pixels.
    #[serde(default = "comparison_size")]
    pub comparison_size: u32,
    /// Size at which pictures are drawn; none: the generator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<usize>,
    /// Whether the pictures are also kept at the size at which they were drawn (`drawn/STRATEGY/ID.png`).
    #[serde(default)]
    pub keep_drawn: bool,
    /// Whether the generator's safety checker looks at the pictures and blackens those it objects to, which shows in
    /// their remarks; off by default, and only some Stable Diffusion checkpoints have one.
    #[serde(default)]
    pub safety_checker: bool,
    /// The longest description, in tokens; none: the captioner's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    #[serde(default = "one")]
    pub num_beams: usize,
    /// Photos described, and pictures drawn, at a time; none: chosen for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// The art-Inception network: a name or a file.
    pub inception: String,
    /// LPIPS, AlexNet part: a name or a file.
    pub lpips_backbone: String,
    /// LPIPS, linear heads: a name or a file.
    pub lpips_linear: String,
    /// How FID enters ArtFID.
    #[serde(default = "mode")]
    pub mode: Mode,
    /// Sample sizes of the `art_fid_inf` extrapolation.
    #[serde(default = "points")]
    pub points: usize,
    /// The metrics that are computed (`toolkit metrics list`); none: the usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,
    pub axes: Axes,
}

/// The axes. What has several values multiplies the strategies, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axes {
    /// Text that names the style; always kept whole in the prompt.
    pub style_text: Axis<String>,
    /// What the captioner is asked; none: its own default.
    #[serde(default, skip_serializing_if = "Axis::is_empty")]
    pub instruction: Axis<String>,
    pub captioner: Axis<String>,
    pub generator: Axis<String>,
    /// Text-to-image, or how far image-to-image leaves the photo; none: text-to-image.
    #[serde(default, skip_serializing_if = "Axis::is_empty")]
    pub strength: Axis<Strength>,
    /// The solver of the denoising steps, where the generator knows several; none: its checkpoint's own.
    #[serde(default, skip_serializing_if = "Axis::is_empty")]
    pub scheduler: Axis<SchedulerName>,
    /// Denoising steps; none: the generator's default.
    #[serde(default, skip_serializing_if = "Axis::is_empty")]
    pub steps: Axis<usize>,
    /// Classifier-free guidance; none: the generator's default.
    #[serde(default, skip_serializing_if = "Axis::is_empty")]
    pub guidance_scale: Axis<f64>,
    /// What not to draw.
    #[serde(default, skip_serializing_if = "Axis::is_empty")]
    pub negative_prompt: Axis<String>,
    /// Seed of the experiment; each picture's own seed follows from it and the photo.
    pub seed: Axis<u64>,
}

const AXES: [&str; 10] = [
    "style_text",
    "instruction",
    "captioner",
    "generator",
    "strength",
    "scheduler",
    "steps",
    "guidance_scale",
    "negative_prompt",
    "seed",
];

fn comparison_size() -> u32 {
    224
}
fn one() -> usize {
    1
}
fn mode() -> Mode {
    Mode::ArtFid
}
fn points() -> usize {
    15
}

impl Config {
    /// Reads an experiment file and resolves it for a profile; `sets` are `KEY=VALUE` from the
    /// command line. Everything that is wrong is wrong usage and names the file or option.
    pub fn load(file: &Path, profile: &str, sets: &[String]) -> Result<Self> {
        let (name, profiles) = (file.display(), Profiles::read(file)?);
        let mut merged = profiles.choose(
            profile,
            |common, keys| Ok(overlay(common, keys)),
            |table, each| resolve(table.clone(), each).map(drop),
        )?;
        let mut set_paths = Vec::new();
        for set in sets {
            let key =
                apply_set(&mut merged, set, profile).map_err(|error| usage(format!("{}: {error:#}", shown(set))))?;
            resolve(merged.clone(), profile).map_err(|error| usage(format!("{}: {error:#}", shown(set))))?;
            set_paths.push(key);
        }
        let mut config = resolve(merged, profile).map_err(|error| usage(format!("{name}: {error:#}")))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        for (key, path) in [("photos", &mut config.photos), ("style_pictures", &mut config.style_pictures)] {
            let beside = (!set_paths.iter().any(|set| set == key)).then_some(folder);
            *path = locate(path, beside);
        }
        config.check().map_err(|error| usage(format!("{name}: {error:#}")))?;
        Ok(config)
    }

    /// Reads the `config.toml` of a run folder.
    pub fn read(file: &Path) -> Result<Self> {
        Self::from_run(file)
    }

    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// What no type can say.
    pub fn check(&self) -> Result<()> {
        check_run_name(&self.name)?;
        positive("limit", self.limit)?;
        positive("batch_size", self.batch_size)?;
        positive("width", self.width)?;
        positive("height", self.height)?;
        positive("max_new_tokens", self.max_new_tokens)?;
        positive("num_beams", Some(self.num_beams))?;
        for steps in self.axes.steps.values() {
            positive("steps", Some(*steps))?;
        }
        // Smaller pictures leave nothing for the last layers of Inception.
        if !(75..=4096).contains(&self.comparison_size) {
            return Err(usage(format!("comparison_size = {} is not between 75 and 4096", self.comparison_size)));
        }
        if self.mode == Mode::ArtFidInf && self.points < 2 {
            return Err(usage("points must be at least 2: art_fid_inf fits a line"));
        }
        if let Some(guidance) = self.axes.guidance_scale.values().find(|guidance| !guidance.is_finite()) {
            return Err(usage(format!("guidance_scale = {guidance} is not a number to work with")));
        }
        check_names(&self.metrics, of_pictures().map(|metric| metric.about()))
    }
}

impl Settings for Config {
    fn but_for_what_may_change(&self, asked: &Self) -> Self {
        let mut held = self.clone();
        held.batch_size = asked.batch_size;
        // Scores are computed anew from what the run keeps.
        held.metrics = asked.metrics.clone();
        if held.limit.is_some() && asked.limit.is_none_or(|limit| held.limit <= Some(limit)) {
            held.limit = asked.limit;
        }
        held
    }
}

/// `common` with the keys of `keys`, which win. The axes of both go under `axes`.
fn overlay(common: &Table, keys: &Table) -> Table {
    let mut merged = Table::new();
    for (key, value) in common.iter().chain(keys) {
        put(&mut merged, key, value.clone());
    }
    merged
}

/// Sets a key; an axis goes under `axes` from wherever it is given.
fn put(table: &mut Table, key: &str, value: Value) {
    let mut axes = match table.remove("axes") {
        Some(Value::Table(axes)) => axes,
        _ => Table::new(),
    };
    match value {
        Value::Table(given) if key == "axes" => axes.extend(given),
        value if AXES.contains(&key) => {
            axes.insert(key.to_string(), value);
        }
        value => {
            table.insert(key.to_string(), value);
        }
    }
    table.insert("axes".to_string(), Value::Table(axes));
}

/// Applies `KEY=VALUE`; the key may be dotted, the value is TOML or else a bare string. Returns the key.
fn apply_set(table: &mut Table, set: &str, profile: &str) -> Result<String> {
    let (key, value) = assignment(set, profile, "photos=DIR")?;
    let key = key.strip_prefix("axes.").unwrap_or(key);
    match key.split_once('.') {
        // A single named value of an axis: it is added, or replaces the one of that name.
        Some((axis, name)) if AXES.contains(&axis) => {
            let mut values = match table.get("axes").and_then(|axes| axes.get(axis)) {
                Some(Value::Table(values)) => values.clone(),
                _ => Table::new(),
            };
            values.insert(name.to_string(), value);
            put(table, axis, Value::Table(values));
        }
        Some(_) => return Err(unknown_key(key, &AXES)),
        None => put(table, key, value),
    }
    Ok(key.to_string())
}

/// From merged keys to a typed configuration.
fn resolve(mut table: Table, profile: &str) -> Result<Config> {
    table.entry("profile").or_insert_with(|| Value::String(profile.to_string()));
    let paths = ["photos", "style_pictures"];
    for key in paths {
        if table.get(key).is_some_and(|path| path.as_str().is_none_or(str::is_empty)) {
            return Err(usage(format!("{key} must be the path of a folder")));
        }
    }
    Value::Table(table).try_into().map_err(|error: toml::de::Error| explain(&error.to_string(), &AXES))
}
