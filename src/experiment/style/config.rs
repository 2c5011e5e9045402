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
use std::sync::OnceLock;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::axes::Axes;
use super::controlnets::{self, ControlNets};
use super::ip_images;
use crate::axes::{NONE, control, find, ip_adapter, keys, lora};
use crate::error::usage;
use crate::experiment::profiles::{locate, located, positive, unknown_key};
use crate::experiment::schema::schema_of;
use crate::experiment::settings::{KindKey, Settings, typed};
use crate::experiment::shared::Shared;
use crate::images::{ControlMap, Fit};
use crate::metrics::image::PictureMetric;
use crate::metrics::image::artfid::Mode;
use crate::metrics::image::embedded::Embedding;
use crate::metrics::image::networks::Network;
use crate::metrics::{check_names, is_asked, of_pictures};
use crate::models::LoraChoice;

/// A resolved configuration: what `config.toml` of a run folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    #[serde(flatten)]
    pub shared: Shared,
    /// What the experiment does: photos described, drawn anew in a style, and compared.
    pub kind: KindKey<Self>,
    /// The folder of photos.
    pub photos: PathBuf,
    /// The folder of pictures in the style to reach.
    pub style_pictures: PathBuf,
    /// The pictures that IP-Adapters are shown (axis `ip_adapter`) which name none themselves: a folder, or one file. Those of
    /// `style_pictures` are what all pictures are measured against; what was shown should not be among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_images: Option<PathBuf>,
    /// How photos of another shape than the pictures are brought to it, for captioners, image-to-image and metrics alike; not
    /// given: squash, the published way, and a word where photos are not square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Fit")]
    pub fit: Option<Fit>,
    /// Side of the square at which pictures are compared, in pixels.
    #[serde(default = "comparison_size")]
    #[schemars(range(min = 75, max = 4096))]
    pub comparison_size: u32,
    /// Width at which pictures are drawn; not given: the generator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub width: Option<usize>,
    /// Height at which pictures are drawn; not given: the generator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub height: Option<usize>,
    /// The ControlNet that reads what the axis `control` computes of the photos (Stable Diffusion 1.5): a name, a folder, an
    /// original single file or a hub id; or a table with one for each map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controlnet: Option<ControlNets>,
    /// Whether the pictures are also kept at the size at which they were drawn (`drawn/STRATEGY/ID.png`).
    #[serde(default = "keep_drawn")]
    pub keep_drawn: bool,
    /// Whether the generator's safety checker looks at the pictures and blackens those it objects to, which shows in
    /// their remarks; off by default, and only some Stable Diffusion checkpoints have one.
    #[serde(default)]
    pub safety_checker: bool,
    /// The art-Inception network: a name or a file.
    pub inception: String,
    /// LPIPS, AlexNet part: a name or a file.
    pub lpips_backbone: String,
    /// LPIPS, linear heads: a name or a file.
    pub lpips_linear: String,
    /// The CLIP of `cmmd`; not given: clip-vit-l-14-336.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmmd_clip: Option<String>,
    /// The network of `csd`: a name or a file; not given: csd-vit-l.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csd: Option<String>,
    /// The network of `dino` and `fd_dinov2`: a name, a folder or a hub id; not given: dinov2-base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dinov2: Option<String>,
    /// How FID enters ArtFID.
    #[serde(default = "mode")]
    pub mode: Mode,
    /// Sample sizes of the `art_fid_inf` extrapolation.
    #[serde(default = "points")]
    pub points: usize,
    /// What the strategies differ in; each may also stand outside this table.
    pub axes: Axes,
}

/// The keys of folders.
const FOLDERS: [&str; 2] = ["photos", "style_pictures"];

fn comparison_size() -> u32 {
    224
}
fn mode() -> Mode {
    Mode::ArtFid
}
fn keep_drawn() -> bool {
    true
}
fn points() -> usize {
    15
}

impl Config {
    /// How photos are brought to the shape of pictures.
    pub fn fit(&self) -> Fit {
        self.fit.unwrap_or_default()
    }

    /// The metrics of the run that ask for the features of networks, and of which.
    pub fn embeddings(&self) -> impl Iterator<Item = (&'static dyn PictureMetric, Embedding)> {
        let asked = of_pictures().filter(|metric| is_asked(&self.shared.metrics, metric.about()));
        asked.filter_map(|metric| Some((metric, metric.embedding()?)))
    }

    /// The ControlNet that reads this map.
    pub fn controlnet(&self, map: ControlMap) -> Option<&str> {
        self.controlnet.as_ref()?.of(map)
    }

    /// That there is a ControlNet for every map, and none for nothing.
    fn check_control(&self) -> Result<()> {
        let mut values = self.axes.values(&control::AXIS).peekable();
        if values.peek().is_none() && self.controlnet.is_some() {
            return Err(usage(
                "controlnet is given, but nothing for it to read: give the axis control (canny or lineart), or leave it out",
            ));
        }
        match values.filter_map(control::map).find(|map| self.controlnet(*map).is_none()) {
            Some(map) => Err(usage(format!(
                "control = {:?} needs a ControlNet that reads it: give controlnet = MODEL, or controlnet.{map} = MODEL",
                map.name()
            ))),
            None => Ok(()),
        }
    }

    /// The name of a network's weights.
    pub fn network(&self, network: Network) -> &str {
        let given = match network {
            Network::ArtInception => Some(&self.inception),
            Network::InceptionV3 => None,
            Network::Clip => self.shared.clip.as_ref(),
            Network::ClipLarge => self.cmmd_clip.as_ref(),
            Network::Csd => self.csd.as_ref(),
            Network::Dinov2 => self.dinov2.as_ref(),
        };
        given.map_or(network.model(), String::as_str)
    }
}

impl Settings for Config {
    const KIND: &'static str = "style_transfer";
    const EXAMPLE: &'static str = "photos=DIR";

    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn shared_mut(&mut self) -> &mut Shared {
        &mut self.shared
    }

    fn schema() -> &'static serde_json::Value {
        static SCHEMA: OnceLock<serde_json::Value> = OnceLock::new();
        SCHEMA.get_or_init(schema_of::<Self>)
    }

    fn check_own(&self) -> Result<()> {
        positive("width", self.width)?;
        positive("height", self.height)?;
        self.axes.check().map_err(usage)?;
        self.check_control()?;
        // Smaller pictures leave nothing for the last layers of Inception.
        if !(75..=4096).contains(&self.comparison_size) {
            return Err(usage(format!("comparison_size = {} is not between 75 and 4096", self.comparison_size)));
        }
        if self.mode == Mode::ArtFidInf && self.points < 2 {
            return Err(usage("points must be at least 2: art_fid_inf fits a line"));
        }
        let known = of_pictures().map(|metric| metric.about());
        let published = &self.shared.published;
        published.iter().try_for_each(|line| line.check(&[("strategy", &line.strategy)], known.clone()))?;
        check_names(&self.shared.metrics, known)
    }

    /// Said or not, it is one fit.
    fn may_change_own(&mut self, asked: &Self) {
        if self.fit() == asked.fit() {
            self.fit = asked.fit;
        }
    }

    fn move_to_places_of(&mut self, other: &Self) {
        self.photos = other.photos.clone();
        self.style_pictures = other.style_pictures.clone();
    }

    /// The axes of both go under `axes`.
    fn join(common: &Table, keys: &Table) -> Result<Table> {
        let mut joined = Table::new();
        for (key, value) in common.iter().chain(keys) {
            put(&mut joined, key, value.clone());
        }
        Ok(joined)
    }

    fn set(table: &mut Table, key: &str, value: Value) -> Result<()> {
        let key = key.strip_prefix("axes.").unwrap_or(key);
        match key.split_once('.') {
            // A single named value of an axis: it is added, or replaces the one of that name.
            Some((axis, name)) if find(axis).is_some() => {
                let mut values = match table.get("axes").and_then(|axes| axes.get(axis)) {
                    Some(Value::Table(values)) => values.clone(),
                    _ => Table::new(),
                };
                values.insert(name.to_string(), value);
                put(table, axis, Value::Table(values));
            }
            Some((controlnets::KEY, map)) => {
                let mut names = match table.remove(controlnets::KEY) {
                    Some(Value::Table(names)) => names,
                    _ => Table::new(),
                };
                names.insert(map.to_string(), value);
                put(table, controlnets::KEY, Value::Table(names));
            }
            Some(_) => return Err(usage(unknown_key(key, &keys(), ""))),
            None => put(table, key, value),
        }
        Ok(())
    }

    fn locate(table: &mut Table, beside: Option<&Path>) {
        for key in FOLDERS.into_iter().chain([ip_images::KEY]) {
            if let Some(Value::String(path)) = table.get_mut(key)
                && !path.is_empty()
                && let Some(found) = locate(Path::new(path.as_str()), beside).to_str()
            {
                *path = found.to_string();
            }
        }
        if let Some(names) = table.get_mut(controlnets::KEY) {
            controlnets::locate_all(names, beside);
        }
        for axis in [&lora::AXIS, &ip_adapter::AXIS] {
            if let Some(values) = table.get_mut("axes").and_then(|axes| axes.get_mut(axis.key)) {
                locate_files(values, beside);
            }
        }
    }

    fn from_keys(mut table: Table) -> Result<Self> {
        ip_images::give(&mut table);
        for key in FOLDERS {
            if table.get(key).is_some_and(|path| path.as_str().is_none_or(str::is_empty)) {
                return Err(usage(format!("{key} must be the path of a folder")));
            }
        }
        typed(table)
    }
}

/// Makes the paths of the adapters and their pictures that are there absolute.
fn locate_files(values: &mut Value, beside: Option<&Path>) {
    match values {
        Value::String(text) if text != NONE => {
            let mut choices = LoraChoice::list(text);
            for choice in &mut choices {
                // Only what a configuration can hold; what is not here may be a hub id.
                if let Some(found) = located(&choice.file, beside) {
                    choice.file = found.into();
                }
            }
            *text = LoraChoice::join(&choices);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| locate_files(value, beside)),
        Value::Table(values) => values.iter_mut().for_each(|(_, value)| locate_files(value, beside)),
        _ => {}
    }
}

/// Sets a key; an axis goes under `axes` from wherever it is given.
fn put(table: &mut Table, key: &str, value: Value) {
    let mut axes = match table.remove("axes") {
        Some(Value::Table(axes)) => axes,
        _ => Table::new(),
    };
    match value {
        Value::Table(given) if key == "axes" => axes.extend(given),
        value if find(key).is_some() => {
            axes.insert(key.to_string(), value);
        }
        value => {
            table.insert(key.to_string(), value);
        }
    }
    table.insert("axes".to_string(), Value::Table(axes));
}
