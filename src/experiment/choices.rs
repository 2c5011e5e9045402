//! Named values of an experiment file, written in TOML as one value, a list, or a table.

use std::borrow::Cow;
use std::fmt::Display;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name that is made from a value.
const MAX_NAME: usize = 40;

/// The values that an axis was given, each with the name under which it shows in the names of strategies.
///
/// ```toml
/// seed = 0                                      # one value
/// guidance_scale = [4.5, 7]                     # names are made from the values
/// style_text = { plain = "Peanuts comic style" }  # names of one's own
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Choices<T>(Vec<(String, T)>);

impl<T> Default for Choices<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Choices<T> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<T> Choices<T> {
    /// The same names with other values.
    pub fn map<'a, U>(&'a self, value: impl Fn(&'a T) -> U) -> Choices<U> {
        Choices(self.0.iter().map(|(name, own)| (name.clone(), value(own))).collect())
    }

    /// From one value, a list or a table: `read` makes a value or says what is wrong with it, `name` names those that
    /// were given no name.
    pub fn read(
        value: toml::Value,
        read: impl Fn(toml::Value) -> Result<T, String>,
        name: impl Fn(&T) -> String,
    ) -> Result<Self, String> {
        let named = |value: T| (name_of(&name(&value)), value);
        let mut values: Vec<(String, T)> = Vec::new();
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    check_name(&name)?;
                    values.push((name, read(value)?));
                }
            }
            toml::Value::Array(array) => {
                for value in array {
                    values.push(named(read(value)?));
                }
            }
            single => values.push(named(read(single)?)),
        }
        if values.is_empty() {
            return Err("an axis needs at least one value".to_string());
        }
        for (at, (own, value)) in values.iter().enumerate() {
            if values[..at].iter().any(|(earlier, _)| earlier == own) {
                return Err(format!("{} is there twice (as {own}); name the values in a table", name(value)));
            }
        }
        Ok(Self(values))
    }
}

impl<T: Clone> Choices<T> {
    /// The values as choices of a plan: where none is given, the choice is the model's.
    pub fn choices(&self) -> Vec<(String, Option<T>)> {
        if self.is_empty() {
            return vec![(String::new(), None)];
        }
        self.0.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect()
    }
}

impl<'de, T: DeserializeOwned + Display> Deserialize<'de> for Choices<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |value: toml::Value| value.try_into::<T>().map_err(|error| error.message().to_string());
        Self::read(toml::Value::deserialize(deserializer)?, read, T::to_string).map_err(D::Error::custom)
    }
}

/// One value, a list, or a table of values by name.
pub(super) fn choices_schema(value: &Schema) -> Schema {
    json_schema!({
        "anyOf": [
            value,
            { "type": "array", "items": value, "minItems": 1 },
            { "type": "object", "additionalProperties": value, "minProperties": 1 },
        ]
    })
}

impl<T: JsonSchema> JsonSchema for Choices<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Choices_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        choices_schema(&generator.subschema_for::<T>())
    }
}

/// Always as a table: the names are kept.
impl<T: Serialize> Serialize for Choices<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Names become parts of file names.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.is_empty() && name.len() <= 80 && name.chars().all(fits) && !name.starts_with('.') {
        return Ok(());
    }
    Err(format!("{name:?} cannot be part of a folder's name: use letters, digits, '-', '_' and '.'"))
}

/// A short name for a value that is safe in paths: of a path or hub id only the last part.
fn name_of(value: &str) -> String {
    let last = value.trim_end_matches('/').rsplit('/').next().unwrap_or(value);
    let mut name = String::new();
    for c in last.chars() {
        match c {
            _ if c.is_ascii_alphanumeric() || "._".contains(c) => name.push(c.to_ascii_lowercase()),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
        if name.len() == MAX_NAME {
            break;
        }
    }
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "value".to_string() } else { name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    struct Both {
        #[serde(default)]
        number: Choices<f64>,
        #[serde(default)]
        text: Choices<String>,
    }

    fn read(text: &str) -> Result<Both, String> {
        toml::from_str(text).map_err(|error| error.message().to_string())
    }

    #[test]
    fn one_value_a_list_and_a_table() {
        let both = read("number = 7\ntext = ['Peanuts comic style', 'owner/Model-Name/']").unwrap();
        assert_eq!(both.number.iter().collect::<Vec<_>>(), [("7", &7.0)]);
        let names: Vec<_> = both.text.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["peanuts-comic-style", "model-name"]);
        let both = read("text = { b = 'one', a = 'two' }").unwrap();
        assert_eq!(both.text.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "a"]);
        assert!(both.number.is_empty());
    }

    #[test]
    fn written_and_read_again_is_the_same() {
        let both = read("number = [4.5, 7]\ntext = { 'x.1' = 'a \"quoted\" text' }").unwrap();
        let text = toml::to_string(&both).unwrap();
        assert_eq!(read(&text).unwrap(), both, "{text}");
    }

    #[test]
    fn what_cannot_be_an_axis_is_refused() {
        assert!(read("number = []").unwrap_err().contains("at least one value"));
        assert!(read("number = [7, 7.0]").unwrap_err().contains("twice"));
        assert!(read("number = 'x'").unwrap_err().contains("invalid type"));
        assert!(read("text = { 'a/b' = 'x' }").unwrap_err().contains("folder's name"));
        assert!(read("text = { '..' = 'x' }").unwrap_err().contains("folder's name"));
    }
}
