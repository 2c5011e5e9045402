//! What the configurations of all kinds of experiments have in common, and the way from an experiment file to one.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use anyhow::{Context, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::profiles::{Profiles, assignment, explain as explain_message, shown, syntax};
use super::schema;
use super::shared::{Shared, shared_keys};
use crate::error::usage;

/// A resolved configuration, as `config.toml` of a run folder holds it.
pub trait Settings: Serialize + DeserializeOwned + JsonSchema + Clone + 'static {
    /// The value of the key `kind`.
    const KIND: &'static str;

    /// The same, as those of which it must be one.
    const KINDS: &'static [&'static str] = &[Self::KIND];

    /// A `--set` that fits, for messages.
    const EXAMPLE: &'static str;

    /// The keys that every kind has.
    fn shared(&self) -> &Shared;

    fn shared_mut(&mut self) -> &mut Shared;

    /// What its keys are; see [`super::schema`].
    fn schema() -> &'static serde_json::Value;

    /// What no type can say of the keys that only this kind has.
    fn check_own(&self) -> Result<()>;

    /// Takes over from `asked` what only this kind has and what may change without changing results.
    fn may_change_own(&mut self, _asked: &Self) {}

    /// Takes over where the pictures are: shards of one run may have run on different machines.
    fn move_to_places_of(&mut self, other: &Self);

    /// The keys of all profiles with those of one, which win.
    fn join(common: &Table, keys: &Table) -> Result<Table>;

    /// Applies what follows `--set`.
    fn set(table: &mut Table, key: &str, value: Value) -> Result<()>;

    /// Makes the paths that are there absolute: those of folders and files in `beside`, the working folder or the repository.
    fn locate(table: &mut Table, beside: Option<&Path>);

    /// From merged keys to the type.
    fn from_keys(table: Table) -> Result<Self>;

    /// Reads an experiment file and resolves it for a profile; `sets` are `KEY=VALUE` from the
    /// command line. Everything that is wrong is wrong usage and names the file or option.
    fn load(file: &Path, profile: &str, sets: &[String]) -> Result<Self> {
        let name = file.display();
        let in_file = |error: anyhow::Error| usage(format!("{name}: {error:#}"));
        let resolve = |table: &Table, profile: &str| {
            let mut table = table.clone();
            table.entry("profile").or_insert_with(|| Value::String(profile.to_string()));
            if table.get("batch_size").and_then(Value::as_str) == Some("auto") {
                table.remove("batch_size");
            }
            Self::from_keys(table)
        };
        let profiles = Profiles::read(file)?;
        let mut keys = profiles.choose(profile, Self::join, |keys, each| resolve(keys, each).map(drop))?;
        // What the file says lies beside it, what is set on the command line does not.
        Self::locate(&mut keys, Some(file.parent().unwrap_or(Path::new(""))));
        for set in sets {
            let mut apply = || {
                let (key, value) = assignment(set, profile, Self::EXAMPLE)?;
                Self::set(&mut keys, key, value)?;
                resolve(&keys, profile).map(drop)
            };
            apply().map_err(|error| usage(format!("{}: {error:#}", shown(set))))?;
        }
        Self::locate(&mut keys, None);
        let config = resolve(&keys, profile).map_err(in_file)?;
        config.check().map_err(in_file)?;
        Ok(config)
    }

    /// Takes limit and shard from the command line, where they are given.
    fn narrow(&mut self, limit: Option<usize>, shard: Option<&str>) -> Result<()> {
        let own = self.shared_mut();
        own.limit = limit.or(own.limit);
        own.shard = shard.map(str::to_string).or(own.shard.take());
        self.check()
    }

    /// What no type can say.
    fn check(&self) -> Result<()> {
        self.shared().check()?;
        self.check_own()
    }

    /// This configuration (a run folder's) with everything as in `asked` that may change without changing results: a run
    /// goes on when the rest is the same. A greater limit continues a run, other metrics are computed from what is
    /// there, and the batch size is no part of what is asked.
    fn but_for_what_may_change(&self, asked: &Self) -> Self {
        let mut held = self.clone();
        held.shared_mut().take_what_may_change(asked.shared());
        held.may_change_own(asked);
        held
    }

    /// Reads the `config.toml` of a run folder.
    fn from_run(file: &Path) -> Result<Self> {
        let name = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        let table: Result<Table> = text.parse().map_err(|error| usage(syntax(&text, &error)));
        table.and_then(typed).map_err(|error| usage(format!("{name} is not a run's configuration: {error:#}")))
    }
}

/// The types of a configuration from its keys. All keys that are unknown or missing are said at once.
pub(super) fn typed<S: Settings>(table: Table) -> Result<S> {
    schema::check(&table, S::schema())?;
    let explain = |error: toml::de::Error| explain_message(&error.to_string());
    // As part of a larger type serde does not say which key is wrong; read by itself it does.
    let own = shared_keys();
    let shared: Table =
        table.iter().filter(|(key, _)| own.contains(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    Value::Table(shared).try_into::<Shared>().map_err(explain)?;
    // Nor does it then say so of a value that is none of the known ones.
    let keys: Vec<(String, String)> =
        table.iter().filter_map(|(key, value)| Some((value.as_str()?.to_string(), key.clone()))).collect();
    let of_whole = |error: toml::de::Error| {
        let message = error.to_string();
        let wrong = message.strip_prefix("unknown variant `").and_then(|rest| rest.split('`').next());
        let key = keys.iter().find(|(value, _)| Some(value.as_str()) == wrong).filter(|_| !message.contains("\nin `"));
        key.map_or_else(|| explain_message(&message), |(_, key)| explain_message(&format!("{message}\nin `{key}`")))
    };
    Value::Table(table).try_into().map_err(of_whole)
}

/// The key `kind` of a configuration: it has one value only.
pub struct KindKey<S>(PhantomData<S>);

impl<S: Settings> Serialize for KindKey<S> {
    fn serialize<W: Serializer>(&self, serializer: W) -> Result<W::Ok, W::Error> {
        serializer.serialize_str(S::KIND)
    }
}

impl<'de, S: Settings> Deserialize<'de> for KindKey<S> {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        let name = String::deserialize(deserializer)?;
        if name == S::KIND { Ok(Self(PhantomData)) } else { Err(R::Error::unknown_variant(&name, S::KINDS)) }
    }
}

impl<S: Settings> fmt::Debug for KindKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(S::KIND)
    }
}

impl<S> Clone for KindKey<S> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<S> PartialEq for KindKey<S> {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl<S: Settings> JsonSchema for KindKey<S> {
    fn schema_name() -> Cow<'static, str> {
        format!("kind_{}", S::KIND).into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": S::KIND })
    }
}
