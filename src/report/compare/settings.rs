//! The settings that differ between two runs.

use super::Line;
use crate::report::folder::Folder;

/// What the manifest says of where a run was made: it may matter, too.
const OF_MANIFEST: [&str; 4] = ["toolkit", "libtorch", "device", "dtype"];

/// A line for each key that the two configurations do not share, and for each such fact of the manifest.
pub fn differences(first: &Folder, second: &Folder) -> Vec<Line> {
    let settings = |folder: &Folder| {
        let mut all = Vec::new();
        folder.config.iter().for_each(|(key, value)| flatten(key, value, &mut all));
        for key in OF_MANIFEST {
            if let Some(text) = folder.manifest.get(key).and_then(|value| value.as_str()) {
                all.push((format!("manifest.{key}"), text.to_string()));
            }
        }
        all
    };
    let (a, b) = (settings(first), settings(second));
    let value = |list: &[(String, String)], key: &str| {
        list.iter().find(|(name, _)| name == key).map_or(String::new(), |(_, value)| value.clone())
    };
    let more = b.iter().filter(|(key, _)| !a.iter().any(|(other, _)| other == key));
    let keys = a.iter().chain(more).map(|(key, _)| key);
    keys.filter_map(|key| {
        let (first, second) = (value(&a, key), value(&b, key));
        let differs = first != second;
        differs.then(|| Line { what: "setting".to_string(), name: key.clone(), first, second, ..Line::default() })
    })
    .collect()
}

fn flatten(key: &str, value: &toml::Value, into: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(name, value)| flatten(&format!("{key}.{name}"), value, into))
        }
        toml::Value::String(text) => into.push((key.to_string(), text.clone())),
        other => into.push((key.to_string(), other.to_string())),
    }
}
