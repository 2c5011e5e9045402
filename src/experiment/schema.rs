//! What experiment files may say, as a JSON Schema that follows from the types of the configurations and their comments:
//! for editors, for the list of keys, and to say at once which keys of a file are unknown or missing.

use anyhow::Result;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::profiles::unknown_key;
use crate::error::usage;

/// More faults than this are counted, not named.
const MOST_FAULTS: usize = 20;

/// The schema of a kind's resolved configuration, without references.
pub(super) fn schema_of<S: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<S>().to_value();
    without_null(&mut schema);
    schema
}

/// A number of pictures, or "auto".
pub(super) fn batch_size(_generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": "auto" }] })
}

/// TOML has no null: an optional key is one that may be left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(without_null),
        Value::Object(keys) => {
            if let Some(Value::Array(types)) = keys.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    keys.insert("type".to_string(), only);
                }
            }
            // A key of a file may be called as a word of schemas is: then it is a schema itself.
            keys.retain(|key, value| match key.as_str() {
                "default" => !(value.is_null() || *value == ""),
                "format" => value.is_object(),
                _ => true,
            });
            keys.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

/// The schema of a kind's files: keys may stand in profiles, axes outside `axes`.
pub(super) fn of_file(resolved: &Value) -> Value {
    let mut keys = Map::new();
    for (key, schema) in properties(resolved) {
        if key != "profile" {
            keys.insert(key.clone(), without_required(schema));
        }
    }
    for (key, schema) in lifted(resolved) {
        keys.insert(key.clone(), schema.clone());
    }
    let profile = json!({"type": "object", "properties": keys, "additionalProperties": false});
    keys.insert(
        "profiles".to_string(),
        json!({
            "description": "Keys that hold in one profile alone, and win there: `[profiles.full]`",
            "type": "object",
            "additionalProperties": profile,
        }),
    );
    json!({"type": "object", "properties": keys, "required": ["kind"], "additionalProperties": false})
}

/// What a file leaves out may be in another of its profiles.
fn without_required(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(keys) = &mut schema {
        keys.remove("required");
    }
    schema
}

/// The keys of an object's schema.
pub(super) fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// The keys that may stand outside the table they belong to.
fn lifted(resolved: &Value) -> impl Iterator<Item = (&String, &Value)> {
    resolved.get("properties").and_then(|keys| keys.get("axes")).into_iter().flat_map(properties)
}

/// Names every key of a merged table that is unknown or missing, at once.
///
/// # Errors
/// Wrong usage, in one line.
pub(super) fn check(table: &toml::Table, resolved: &Value) -> Result<()> {
    let outside: Vec<&str> = lifted(resolved).map(|(key, _)| key.as_str()).collect();
    let mut faults = Faults::default();
    faults.look_at(table, resolved, &mut Vec::new(), &outside);
    faults.into_result()
}

#[derive(Default)]
struct Faults {
    unknown: Vec<String>,
    missing: Vec<String>,
}

impl Faults {
    /// `more` are keys that are known beside those of the schema.
    fn look_at<'t>(&mut self, table: &'t toml::Table, schema: &Value, path: &mut Vec<&'t str>, more: &[&str]) {
        let known: Vec<&str> = properties(schema).map(|(key, _)| key.as_str()).chain(more.iter().copied()).collect();
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        for (key, value) in table {
            let own = schema.get("properties").and_then(|keys| keys.get(key)).or(others);
            let Some(own) = own else {
                // A table of any names says nothing of them.
                if !known.is_empty() {
                    self.unknown.push(unknown_key(key, &known, &path[..path.len().min(8)].join(".")));
                }
                continue;
            };
            path.push(key);
            self.look_into(value, own, path);
            path.pop();
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for key in required.filter_map(Value::as_str).filter(|key| !table.contains_key(*key)) {
            let place = if path.is_empty() || path.as_slice() == ["axes"] {
                String::new()
            } else {
                format!("{}.", path.join("."))
            };
            self.missing.push(format!("{place}{key} is missing"));
        }
    }

    /// Tables, and those of a list.
    fn look_into<'t>(&mut self, value: &'t toml::Value, schema: &Value, path: &mut Vec<&'t str>) {
        match value {
            toml::Value::Table(table) => {
                if let Some(schema) = branch(schema, "object") {
                    self.look_at(table, schema, path, &[]);
                }
            }
            toml::Value::Array(list) => {
                if let Some(items) = branch(schema, "array").and_then(|schema| schema.get("items")) {
                    list.iter().for_each(|value| self.look_into(value, items, path));
                }
            }
            _ => {}
        }
    }

    fn into_result(self) -> Result<()> {
        let mut all = [self.unknown, self.missing].concat();
        if all.is_empty() {
            return Ok(());
        }
        if all.len() > MOST_FAULTS {
            let more = all.len() - MOST_FAULTS;
            all.truncate(MOST_FAULTS);
            all.push(format!("{more} more keys"));
        }
        Err(usage(all.join("; ")))
    }
}

/// The schema itself, or the one of its alternatives, that is of this type.
fn branch<'s>(schema: &'s Value, kind: &str) -> Option<&'s Value> {
    if schema.get("type").is_some_and(|name| name == kind) {
        return Some(schema);
    }
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array()).flatten();
    alternatives.into_iter().find(|schema| schema.get("type").is_some_and(|name| name == kind))
}
