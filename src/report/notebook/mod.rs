//! A run as a Jupyter notebook (nbformat 4.5): it reads the CSV files with pandas and draws with
//! matplotlib. Its outputs are stored, so that it can be read without running it: tables to the
//! letter as pandas writes them, pictures as this program draws them from the same numbers.
//!
//! Format: <https://nbformat.readthedocs.io/en/latest/format_description.html>

pub mod cells;
pub mod montage;
pub mod tables;

use std::path::Path;

use anyhow::{Context, Result};
use plotters::style::RGBColor;
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::cells::{NotebookCell, Output, code, markdown};
use super::correlations::Correlations;
use super::figure::Figure;
use super::folder::Folder;
use super::{page, save};
use crate::run::layout::way;

/// Writes a notebook, and makes its folder: the cells that `make` gives for the absolute path of that folder.
pub fn write(file: &Path, make: impl FnOnce(&Path) -> Result<Vec<NotebookCell>>) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let whole = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
    let notebook = json!({
        "cells": cells::numbered(make(&whole)?),
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}
        },
        "nbformat": 4,
        "nbformat_minor": 5
    });
    save(file, &to_json(&notebook)?)
}

/// Indented by one blank, with a newline at the end: as Jupyter itself writes notebooks.
fn to_json(notebook: &Value) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer =
        serde_json::Serializer::with_formatter(&mut bytes, serde_json::ser::PrettyFormatter::with_indent(b" "));
    notebook.serialize(&mut writer)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What was asked and what came out, in words.
pub fn introduction(run: &Folder, sentences: &[String], warnings: &[String]) -> NotebookCell {
    let mut text = format!("# {}\n", cells::plain(run.title()));
    if !run.setting("question").is_empty() {
        text += &format!("\n{}\n", cells::plain(run.setting("question")));
    }
    for sentence in sentences {
        text += &format!("\n**{}**\n", cells::plain(sentence));
    }
    text.push('\n');
    for warning in warnings {
        text += &format!("- {}\n", cells::plain(warning));
    }
    text += "\nThe outputs below are stored. Running the cells makes them again from the run folder, which";
    text += &match page::commands(run).first() {
        Some(command) if command.starts_with("./toolkit experiment") => {
            format!(" {} makes.", cells::inline_code(command))
        }
        _ => " must be there.".to_string(),
    };
    markdown("title", &text)
}

/// The code that every notebook starts with; `colors` by name.
pub fn preamble(run: &Folder, folder: &Path, colors: impl Iterator<Item = (String, RGBColor)>) -> Result<String> {
    let dir = run.dir.canonicalize().with_context(|| format!("cannot find {}", run.dir.display()))?;
    let colors: Map<String, Value> = colors.map(|(name, color)| (name, page::css_color(color).into())).collect();
    // A JSON string or object of strings is one in Python, too.
    let run = json!(way(folder, &dir)).to_string();
    // Both are put in at once: neither may say where the other goes.
    let (start, rest) = include_str!("preamble.py").split_once("@RUN@").context("the preamble names no run")?;
    let (middle, end) = rest.split_once("@COLORS@").context("the preamble names no colours")?;
    Ok(format!("{start}{run}{middle}{}{end}", serde_json::to_string_pretty(&colors)?))
}

/// The code with the words for those who do not see the figure that it draws.
pub fn with_alt(source: &str, figure: &Figure) -> String {
    source.replace("@ALT@", &json!(figure.alt).to_string())
}

/// The names of columns as a Python list.
pub fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// A file of a run: its name, a column of text that it has, and which of its rows count.
pub type Source = (&'static str, &'static str, &'static str);

/// The rows of items.csv that did not fail.
pub const ITEMS: Source = ("items.csv", "status", ".query(\"status != 'failed'\")");

/// A cell for each table of rank correlations, which the code computes from this file.
pub fn agree(cells: &mut Vec<NotebookCell>, found: [(Source, Option<Correlations>); 2]) {
    let mut title = Some(
        "## Do the metrics agree?\n\nSpearman's rank correlation: 1 where two metrics order alike, -1 where they order in \
         reverse, 0 where one says nothing of the other.",
    );
    for (at, ((file, text, filter), correlations)) in found.into_iter().enumerate() {
        let Some(correlations) = correlations.filter(|found| found.too_few.is_empty()) else { continue };
        cells.extend(title.take().map(|title| markdown("agreement-title", title)));
        let source = include_str!("agreement.py").replace("@FILE@", file).replace("@TEXT@", text);
        let source = source.replace("@FILTER@", filter).replace("@COLUMNS@", &list(&correlations.names));
        let rows = correlations.names.iter().zip(&correlations.values).map(|(name, values)| {
            [name.clone()].into_iter().chain(values.iter().map(|value| tables::number(*value))).collect()
        });
        let columns = ["metric".to_string()].into_iter().chain(correlations.names.clone()).collect();
        let table = tables::NotebookTable { columns, rows: rows.collect() };
        cells.push(code(&format!("agreement-{at}"), &source, vec![Output::html(table)]));
    }
}

/// How the run was made, where its folder says so.
pub fn origin(run: &Folder, folder: &Path, cells: &mut Vec<NotebookCell>) {
    if run.config_text.is_none() && !run.manifest.is_object() {
        return;
    }
    cells.push(markdown("configuration-title", "## Configuration"));
    if let Some(text) = &run.config_text {
        // Paths below the project are shown from there, by the code and here.
        let project = folder.parent().map(|parent| format!("{}/", parent.display())).unwrap_or_default();
        let text = if project.is_empty() { text.clone() } else { text.replace(&project, "") };
        cells.push(code("configuration", include_str!("config.py"), vec![Output::stdout(text + "\n")]));
    }
    if let Some(manifest) = run.manifest.as_object() {
        cells.push(code("manifest", include_str!("manifest.py"), vec![Output::html(tables::manifest(manifest))]));
    }
}
