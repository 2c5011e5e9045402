//! Every key of an experiment file, as rows for people.

use serde::Serialize;
use serde_json::{Value, json};

use super::schema::{of_file, properties};
use super::table::{AnyKind, KINDS};

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    /// The kind of experiment.
    pub kind: &'static str,
    /// The key with the tables it stands in; NAME is a name of one's own.
    pub key: String,
    /// What its value is.
    pub form: String,
    /// Its value where it is not given; "" of one that must be, or that is left to the model.
    pub default: String,
    pub required: bool,
    pub meaning: String,
}

/// All keys of all kinds.
pub fn keys() -> Vec<KeyRow> {
    let mut rows = Vec::new();
    KINDS.iter().for_each(|kind| collect(&mut rows, kind.name(), "", kind.schema()));
    rows
}

/// A JSON Schema of the files of all kinds, for editors.
pub fn schema() -> Value {
    let one = |kind: &dyn AnyKind| {
        let mut schema = of_file(kind.schema());
        schema["title"] = json!(format!("An experiment of kind {}", kind.name()));
        schema
    };
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "An experiment of the toolkit",
        "oneOf": KINDS.map(one),
    })
}

fn collect(rows: &mut Vec<KeyRow>, kind: &'static str, prefix: &str, schema: &Value) {
    let required = |key: &str| {
        let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).any(|name| name == key)
    };
    for (key, schema) in properties(schema) {
        let path = format!("{prefix}{key}");
        // An axis is known by its own name, wherever it stands.
        if path == "axes" {
            collect(rows, kind, "", schema);
            continue;
        }
        rows.push(KeyRow {
            kind,
            key: path.clone(),
            form: form(schema),
            default: schema.get("default").map(default).unwrap_or_default(),
            required: required(key),
            meaning: meaning(schema),
        });
        for inner in inner(schema) {
            collect(rows, kind, &format!("{path}.{}", inner.1), inner.0);
        }
    }
}

/// The tables inside a key: of names of one's own, or of a list.
fn inner(schema: &Value) -> Vec<(&Value, &'static str)> {
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array()).flatten();
    let tables = std::iter::once(schema).chain(alternatives);
    tables
        .flat_map(|schema| {
            let named = schema.get("additionalProperties").map(|inner| (inner, "NAME."));
            named.into_iter().chain(schema.get("items").map(|inner| (inner, "")))
        })
        .flat_map(|(inner, prefix)| {
            let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| inner.get(*key)?.as_array()).flatten();
            std::iter::once(inner).chain(alternatives).map(move |inner| (inner, prefix))
        })
        .filter(|(inner, _)| inner.get("properties").is_some())
        .collect()
}

/// The comment's lines as one.
fn meaning(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn default(value: &Value) -> String {
    match value {
        Value::Array(list) if list.is_empty() => String::new(),
        other => other.to_string(),
    }
}

/// The type in words.
fn form(schema: &Value) -> String {
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    let alternatives = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array());
    if let Some(alternatives) = alternatives {
        let mut forms: Vec<String> = Vec::new();
        for form in alternatives.iter().map(form) {
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        return forms.join(" or ");
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer") => "whole number",
        Some("number") => "number",
        Some("boolean") => "true or false",
        Some("array") => "list",
        Some("object") => "table",
        _ => "text",
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axes::AXES;
    use crate::experiment::schema::check;

    #[test]
    fn a_hostile_file_is_a_short_line() {
        let table: toml::Table = (0..5000).map(|at| (format!("{at}{}", "x".repeat(900)), 1.into())).collect();
        for kind in KINDS {
            let error = check(&table, kind.schema()).unwrap_err().to_string();
            assert!(error.len() < 4000 && error.ends_with("more keys") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn keys_of_all_kinds_are_there_with_their_defaults() {
        let rows = keys();
        let find = |kind: &str, key: &str| {
            let found = rows.iter().find(|row| row.kind == kind && row.key == key);
            found.unwrap_or_else(|| panic!("{kind}: {key}")).clone()
        };
        let size = find("style_transfer", "comparison_size");
        assert_eq!((size.form.as_str(), size.default.as_str(), size.required), ("whole number", "224", false));
        assert!(find("style_transfer", "photos").required && find("caption", "datasets.NAME.path").required);
        assert_eq!(find("style_transfer", "mode").form, "\"art_fid\" or \"art_fid_inf\"");
        assert!(find("caption", "models.NAME.instruction").meaning.contains("asked"));
        find("caption", "published.model");
        for axis in AXES {
            let row = find("style_transfer", axis.key);
            assert_eq!((row.meaning.as_str(), row.required), (axis.help, axis.required));
        }
        for row in &rows {
            assert!(!row.meaning.is_empty() && !row.form.is_empty(), "{row:?}");
        }
    }
}
