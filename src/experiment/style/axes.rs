//! The axes that an experiment gives: which values each has, as its file says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::axes::{AXES, Axis, AxisValue, Form, NONE, find, keys};
use crate::experiment::choices::{Choices, choices_schema};

/// The values of every axis that is given. What has several multiplies the strategies, in the order of [`AXES`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axes(BTreeMap<&'static str, Choices<AxisValue>>);

impl Axes {
    /// The values of an axis as choices of a plan: one that is not given leaves the choice to the model.
    pub fn choices(&self, axis: &Axis) -> Vec<(&str, &AxisValue)> {
        match self.0.get(axis.key) {
            Some(choices) => choices.iter().collect(),
            None => vec![("", &AxisValue::None)],
        }
    }

    /// The values that an axis is given.
    pub fn values(&self, axis: &Axis) -> impl Iterator<Item = &AxisValue> {
        self.0.get(axis.key).into_iter().flat_map(Choices::values)
    }

    /// The same as texts.
    pub fn texts(&self, axis: &Axis) -> impl Iterator<Item = &str> {
        self.values(axis).map(AxisValue::text)
    }

    /// What the form of a value does not say.
    pub fn check(&self) -> Result<(), String> {
        AXES.iter().try_for_each(|axis| self.values(axis).try_for_each(axis.check))
    }
}

/// A table of each axis's values, in the order of [`AXES`]; the names are kept.
impl Serialize for Axes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (axis, choices) in AXES.iter().filter_map(|axis| Some((axis, self.0.get(axis.key)?))) {
            map.serialize_entry(axis.key, &choices.map(InFile))?;
        }
        map.end()
    }
}

/// A value as an experiment file has it.
#[derive(Debug)]
struct InFile<'a>(&'a AxisValue);

impl Serialize for InFile<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_none() { serializer.serialize_str(NONE) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Axes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

/// A key for each axis.
impl JsonSchema for Axes {
    fn schema_name() -> Cow<'static, str> {
        "Axes".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let one = |axis: &&Axis| {
            let mut schema = choices_schema(&value_schema(axis));
            schema.insert("description".to_string(), axis.help.into());
            (axis.key.to_string(), schema.to_value())
        };
        let keys: serde_json::Map<String, serde_json::Value> = AXES.iter().map(one).collect();
        let required: Vec<&str> = AXES.iter().filter(|axis| axis.required).map(|axis| axis.key).collect();
        json_schema!({
            "type": "object", "properties": keys, "required": required, "additionalProperties": false
        })
    }
}

/// One value of an axis.
fn value_schema(axis: &Axis) -> Schema {
    let names = (axis.names)();
    let value = match axis.form {
        Form::Text if axis.is_list => {
            json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
        }
        Form::Text if !names.is_empty() => json_schema!({ "enum": names }),
        Form::Text => json_schema!({ "type": "string" }),
        Form::Whole => json_schema!({ "type": "integer", "minimum": 0 }),
        Form::Number => json_schema!({ "type": "number" }),
    };
    if names.is_empty() || axis.form == Form::Text {
        return value;
    }
    json_schema!({ "anyOf": [value, { "enum": names }] })
}

/// Reads all axes.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Axes;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a table of axes")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Axes, M::Error> {
        let mut axes = Axes::default();
        while let Some(key) = map.next_key::<String>()? {
            let Some(axis) = find(&key) else {
                let known = keys().join("`, `");
                return Err(M::Error::custom(format!("unknown field `{key}`, expected one of `{known}`")));
            };
            axes.0.insert(axis.key, map.next_value_seed(OneAxis(axis))?);
        }
        match AXES.iter().find(|axis| axis.required && !axes.0.contains_key(axis.key)) {
            Some(axis) => Err(M::Error::missing_field(axis.key)),
            None => Ok(axes),
        }
    }
}

/// Reads the values of one axis; what is wrong is said where its key is known.
struct OneAxis(&'static Axis);

impl<'de> DeserializeSeed<'de> for OneAxis {
    type Value = Choices<AxisValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let Self(axis) = self;
        let value = toml::Value::deserialize(deserializer)?;
        Choices::read(value, |value| (axis.read)(axis, value), axis.name).map_err(D::Error::custom)
    }
}
