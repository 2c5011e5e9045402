//! The key `controlnet`: which ControlNet reads what is computed of the photos.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use crate::experiment::profiles::located;
use crate::images::ControlMap;

/// The key.
pub const KEY: &str = "controlnet";

/// One for all maps, or one for each: built-in names, folders, files or hub ids.
#[derive(Debug, Clone, PartialEq)]
pub enum ControlNets {
    All(String),
    Each(BTreeMap<ControlMap, String>),
}

impl ControlNets {
    /// The one that reads this map.
    pub fn of(&self, map: ControlMap) -> Option<&str> {
        match self {
            Self::All(name) => Some(name),
            Self::Each(names) => names.get(&map).map(String::as_str),
        }
    }
}

impl Serialize for ControlNets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All(name) => name.serialize(serializer),
            Self::Each(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ControlNets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |value: Value| match value {
            Value::String(name) if !name.trim().is_empty() => Ok(name),
            other => Err(D::Error::custom(format!("{KEY} = {other} is not the name of a ControlNet"))),
        };
        match Value::deserialize(deserializer)? {
            Value::Table(table) => {
                let one = |(map, name): (String, Value)| Ok((map.parse().map_err(D::Error::custom)?, text(name)?));
                table.into_iter().map(one).collect::<Result<_, _>>().map(Self::Each)
            }
            name @ Value::String(_) => text(name).map(Self::All),
            _ => Err(D::Error::custom(format!("{KEY} must be a ControlNet, or a table with one for each map"))),
        }
    }
}

impl JsonSchema for ControlNets {
    fn schema_name() -> Cow<'static, str> {
        "ControlNets".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let each: serde_json::Map<_, _> = ControlMap::ALL
            .map(|map| (map.name().to_string(), serde_json::json!({ "type": "string" })))
            .into_iter()
            .collect();
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "object", "properties": each, "additionalProperties": false, "minProperties": 1 },
        ] })
    }
}

/// Makes the paths of those that are there absolute; what else is named is a built-in name or a hub id.
pub fn locate_all(value: &mut Value, beside: Option<&Path>) {
    match value {
        Value::String(name) if !name.is_empty() => {
            if let Some(path) = located(Path::new(name.as_str()), beside) {
                *name = path;
            }
        }
        Value::Table(names) => names.iter_mut().for_each(|(_, name)| locate_all(name, beside)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Keys {
        controlnet: ControlNets,
    }

    #[test]
    fn one_for_all_or_one_for_each() {
        let read = |text: &str| toml::from_str::<Keys>(text).map_err(|error| error.message().to_string());
        for (text, canny, lineart) in [
            ("controlnet = 'a'", Some("a"), Some("a")),
            ("controlnet = { canny = 'a', lineart = 'b' }", Some("a"), Some("b")),
            ("controlnet = { lineart = 'b' }", None, Some("b")),
        ] {
            let keys = read(text).unwrap();
            assert_eq!(
                (keys.controlnet.of(ControlMap::Canny), keys.controlnet.of(ControlMap::Lineart)),
                (canny, lineart)
            );
            assert_eq!(read(&toml::to_string(&keys).unwrap()).unwrap(), keys);
        }
        assert!(read("controlnet = { cany = 'a' }").unwrap_err().contains("did you mean \"canny\"?"));
        assert!(read("controlnet = 3").unwrap_err().contains("a ControlNet, or a table"));
        assert!(read("controlnet = ''").unwrap_err().contains("not the name of a ControlNet"));
    }
}
