//! The configuration of a caption experiment.
//!
//! ```toml
//! name = "caption_benchmark"
//! kind = "caption"
//!
//! [profiles.full.models]
//! blip-base = "blip-base"                 # the name in the results = a name, folder or hub id
//! [profiles.full.models.phi-4-multimodal]
//! model = "phi-4-multimodal"
//! instruction = { describe = "Describe the image.", short = "Describe the image in one short sentence." }
//!
//! [profiles.full.datasets.coco]
//! path = "owner/name"                     # a folder, a file, or a data set of the hub
//! batch_size = 1
//! ```
//! Keys outside the profiles hold for all profiles; a profile's keys win, `--set` wins over both.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Result;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use crate::error::{nearest, usage};
use crate::experiment::choices::{Choices, check_name};
use crate::experiment::profiles::{locate, positive};
use crate::experiment::schema::{batch_size, schema_of};
use crate::experiment::settings::{KindKey, Settings, typed};
use crate::experiment::shared::Shared;
use crate::metrics::{check_names, of_captions};

/// A resolved configuration: what `config.toml` of a run folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaptionConfig {
    #[serde(flatten)]
    pub shared: Shared,
    /// What the experiment does: pictures described, and compared with what people wrote.
    pub kind: KindKey<Self>,
    /// The captioners by their names in the results; a text alone is the model.
    pub models: Named<Model>,
    /// The data sets by their names in the results; a text alone is the path.
    pub datasets: Named<Dataset>,
}

/// A captioner and how it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A name, a folder or a hub id.
    pub model: String,
    /// What it is asked (BLIP: the words that its caption starts with); each value is measured by itself. Not given: its own.
    #[serde(default, skip_serializing_if = "Choices::is_empty")]
    pub instruction: Choices<String>,
    /// The longest caption of this model, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_new_tokens: Option<usize>,
    /// Beams of this model's search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub num_beams: Option<usize>,
}

/// A data set and how it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// A folder, an annotation file, or `owner/name` in the Hugging Face cache.
    pub path: PathBuf,
    /// The folder or zip of the pictures where they lie elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// The layout of its files; not given: told by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The part that is used; not given: `test` where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Pictures of this data set at a time; "auto": chosen for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "batch_size")]
    pub batch_size: Option<usize>,
}

/// A table whose order is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Read<T> {
            type Value = Named<T>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("a table of names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut named = Vec::new();
                while let Some(entry) = map.next_entry::<String, T>()? {
                    check_name(&entry.0).map_err(serde::de::Error::custom)?;
                    named.push(entry);
                }
                Ok(Named(named))
            }
        }
        deserializer.deserialize_map(Read(PhantomData))
    }
}

/// As files have it: a table of names, each with the value or with a text that stands for it, or a list of texts.
impl<T: JsonSchema> JsonSchema for Named<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let whole = generator.subschema_for::<T>();
        json_schema!({
            "anyOf": [
                { "type": "object", "additionalProperties": { "anyOf": [whole, { "type": "string" }] } },
                { "type": "array", "items": { "type": "string" } },
            ]
        })
    }
}

/// With `--set` a key may be the name of a data set or model: `coco=DIR` is its path, `coco.split=val` one of its keys.
/// `photos=DIR` puts one's own pictures (with a `captions.csv`, or without captions) in the place of all data sets.
impl Settings for CaptionConfig {
    const KIND: &'static str = "caption";
    const EXAMPLE: &'static str = "coco=DIR";

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
        for (name, model) in &self.models.0 {
            positive(&format!("{name}.max_new_tokens"), model.max_new_tokens)?;
            positive(&format!("{name}.num_beams"), model.num_beams)?;
        }
        for (name, dataset) in &self.datasets.0 {
            positive(&format!("{name}.batch_size"), dataset.batch_size)?;
        }
        if self.models.0.is_empty() || self.datasets.0.is_empty() {
            return Err(usage("at least one model and one data set are needed"));
        }
        let known = of_captions().map(|metric| metric.about());
        for line in &self.shared.published {
            line.check(&[("dataset", &line.dataset), ("model", &line.model)], known.clone())?;
        }
        check_names(&self.shared.metrics, known)
    }

    fn may_change_own(&mut self, asked: &Self) {
        for ((_, own), (_, asked)) in self.datasets.0.iter_mut().zip(&asked.datasets.0) {
            own.batch_size = asked.batch_size;
        }
    }

    fn move_to_places_of(&mut self, other: &Self) {
        for ((_, own), (_, other)) in self.datasets.0.iter_mut().zip(&other.datasets.0) {
            (own.path, own.images) = (other.path.clone(), other.images.clone());
        }
    }

    /// Short forms are spelt out.
    fn join(common: &Table, keys: &Table) -> Result<Table> {
        let mut joined = Table::new();
        for (key, value) in common.iter().chain(keys) {
            let mut value = value.clone();
            spell_out(key, &mut value)?;
            overlay(&mut joined, key, value);
        }
        Ok(joined)
    }

    fn set(table: &mut Table, key: &str, value: Value) -> Result<()> {
        set(table, key, value)
    }

    /// What is not there is taken for a hub id.
    fn locate(table: &mut Table, beside: Option<&Path>) {
        let Some(Value::Table(datasets)) = table.get_mut("datasets") else { return };
        for (_, dataset) in datasets.iter_mut() {
            for key in ["path", "images"] {
                let Some(Value::String(text)) = dataset.get_mut(key) else { continue };
                let found = locate(Path::new(text.as_str()), beside);
                if found.exists() {
                    *text = found.display().to_string();
                }
            }
        }
    }

    fn from_keys(table: Table) -> Result<Self> {
        typed(table)
    }
}

/// Turns short forms into tables: `blip = "NAME"`, `models = ["NAME"]`, `coco = "DIR"`, `batch_size = "auto"`.
/// Two things of a list that would have one name are wrong usage.
fn spell_out(key: &str, value: &mut Value) -> Result<()> {
    let inner = match key {
        "models" => "model",
        "datasets" => "path",
        _ => return Ok(()),
    };
    if let Value::Array(names) = value {
        let mut named = Table::new();
        for name in names {
            let Some(text) = name.as_str() else { return Err(usage(format!("{key}: {name} is no text"))) };
            let short = text.trim_end_matches('/').rsplit('/').next().unwrap_or(text);
            if named.insert(short.to_string(), name.clone()).is_some() {
                return Err(usage(format!("{key}: {text} is there twice (as {short}); name the values in a table")));
            }
        }
        *value = Value::Table(named);
    }
    let Value::Table(entries) = value else { return Ok(()) };
    for (_, entry) in entries.iter_mut() {
        if entry.is_str() {
            *entry = Value::Table([(inner.to_string(), entry.clone())].into_iter().collect());
        }
        if let Value::Table(keys) = entry
            && keys.get("batch_size").and_then(Value::as_str) == Some("auto")
        {
            keys.remove("batch_size");
        }
    }
    Ok(())
}

/// Sets a key; tables are joined, their keys win one by one.
fn overlay(table: &mut Table, key: &str, value: Value) {
    match (table.get_mut(key), value) {
        (Some(Value::Table(held)), Value::Table(given)) => {
            for (key, value) in given {
                overlay(held, &key, value);
            }
        }
        (_, value) => {
            table.insert(key.to_string(), value);
        }
    }
}

fn set(table: &mut Table, key: &str, mut value: Value) -> Result<()> {
    if key == "photos" {
        let mut datasets = Value::Table([("photos".to_string(), value)].into_iter().collect());
        spell_out("datasets", &mut datasets)?;
        table.insert("datasets".to_string(), datasets);
        return Ok(());
    }
    let (group, path) = find_group(table, key);
    let Some(group) = group else {
        if path.contains('.') {
            return Err(unknown(table, path));
        }
        if path == "batch_size" && value.as_str() == Some("auto") {
            table.remove(path);
            return Ok(());
        }
        spell_out(path, &mut value)?;
        table.insert(path.to_string(), value);
        return Ok(());
    };
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    if rest.is_empty() {
        // Another place: where the pictures of the old one were no longer matters.
        if group == "datasets"
            && value.is_str()
            && let Some(Value::Table(keys)) = table.get_mut(group).and_then(|group| group.get_mut(name))
        {
            keys.remove("images");
            keys.remove("format");
        }
    } else {
        let mut parts: Vec<&str> = rest.split('.').collect();
        parts.reverse();
        for part in parts {
            value = Value::Table([(part.to_string(), value)].into_iter().collect());
        }
        if rest == "batch_size"
            && let Some(Value::Table(keys)) = table.get_mut(group).and_then(|group| group.get_mut(name))
        {
            keys.remove("batch_size");
        }
    }
    let mut entries = Value::Table([(name.to_string(), value)].into_iter().collect());
    spell_out(group, &mut entries)?;
    overlay(table, group, entries);
    Ok(())
}

/// The group a dotted key belongs to, and the key inside it: `datasets.coco.split` and `coco.split` are the same.
fn find_group<'a>(table: &Table, key: &'a str) -> (Option<&'static str>, &'a str) {
    for group in ["models", "datasets"] {
        if let Some(inside) = key.strip_prefix(group).and_then(|rest| rest.strip_prefix('.')) {
            return (Some(group), inside);
        }
        let first = key.split('.').next().unwrap_or(key);
        if table.get(group).is_some_and(|entries| entries.get(first).is_some()) {
            return (Some(group), key);
        }
    }
    (None, key)
}

fn unknown(table: &Table, key: &str) -> anyhow::Error {
    let first = key.split('.').next().unwrap_or(key);
    let groups = ["models", "datasets"].iter().filter_map(|group| table.get(*group)?.as_table());
    let names: Vec<&str> = groups.flat_map(|group| group.keys().map(String::as_str)).collect();
    let near = nearest(first, names.iter().copied());
    usage(format!("no model or data set is called {first:?}{near} (there are: {})", names.join(", ")))
}
