//! An experiment file to start from: a built-in one under another name, with every key that it does not give as a comment.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::keys::{KeyRow, keys};
use super::library::find;
use super::profiles::check_run_name;
use super::table::{KINDS, kind};
use crate::error::usage;
use crate::runtime::home;

/// The text of an experiment file that is to be called `file`, after `from`: a built-in experiment or a kind.
///
/// # Errors
/// Wrong usage: no such experiment, or a file whose name cannot be an experiment's.
pub fn template(file: &Path, from: &str) -> Result<String> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if file.extension().is_none_or(|ending| ending != "toml") {
        return Err(usage(format!("{}: an experiment's file ends in .toml", file.display())));
    }
    check_run_name(&stem).map_err(|error| usage(format!("{}: {error:#}", file.display())))?;
    let of_kind = KINDS.iter().find(|kind| kind.name() == from).map(|kind| kind.example());
    let source = find(of_kind.unwrap_or(from))?;
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let of_kind = kind(&source)?.name();
    Ok(head(file) + &body(&text, &stem, of_kind))
}

/// What the file is, and where editors find its keys.
fn head(file: &Path) -> String {
    let schema = home().ok().map(|home| home.join("experiments/experiment.schema.json")).filter(|file| file.is_file());
    let schema = schema.map(|schema| format!("#:schema {}\n", schema.display())).unwrap_or_default();
    let name = file.display();
    format!(
        "{schema}# ./toolkit experiment {name} --dry-run     what would run, and what is missing\n\
         # ./toolkit experiment {name}               with profile mini: the embedded models and pictures\n\
         # ./toolkit experiment {name} --profile full     the real models\n\
         # ./toolkit experiment --keys                     every key with its meaning\n\n"
    )
}

/// The built-in file without its head, under the new name, with the keys that it leaves out.
fn body(text: &str, name: &str, kind: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut is_head = true;
    for line in text.lines() {
        is_head &= line.starts_with('#');
        if is_head {
            continue;
        }
        if line.starts_with("name = ") {
            lines.push(format!("name = {}", toml::Value::String(name.to_string())));
        } else {
            lines.push(line.to_string());
        }
        if line.starts_with("question = ") {
            lines.push(String::new());
            lines.extend(comments(text, kind));
        }
    }
    lines.join("\n") + "\n"
}

/// The keys of the top that no line of the file gives.
fn comments(text: &str, kind: &str) -> Vec<String> {
    let given = |key: &str| {
        text.lines().any(|line| {
            let line = line.trim_start_matches(['[', ' ']);
            let first = line.split(['=', ']', ' ']).next().unwrap_or_default();
            first.split('.').any(|part| part == key)
        })
    };
    let keys = keys().into_iter().filter(|row| row.kind == kind && !row.key.contains('.') && row.key != "profile");
    keys.filter(|row| !given(&row.key)).flat_map(|row| comment(&row)).collect()
}

fn comment(row: &KeyRow) -> [String; 2] {
    let value = match (row.default.as_str(), row.form.as_str()) {
        ("", form) => format!("…   ({form})"),
        (default, _) => default.to_string(),
    };
    [format!("# {}", row.meaning), format!("# {} = {value}", row.key)]
}
