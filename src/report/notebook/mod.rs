//! A run as a Jupyter notebook (nbformat 4.5): it reads the CSV files with pandas and draws with
//! matplotlib. Its outputs are stored, so that it can be read without running it: tables to the
//! letter as pandas writes them, pictures as this program draws them from the same numbers.
//!
//! Format: <https://nbformat.readthedocs.io/en/latest/format_description.html>

pub(super) mod cells;
pub(super) mod montage;
pub(super) mod tables;

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use plotters::style::RGBColor;
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::cells::{Cell, Output, code, markdown};
use super::number::finite;
use super::rows::ItemRow;
use super::verdict::verdict;
use super::{Run, gallery, page, plots, save};

/// Writes `NAME.ipynb` of a style run into `folder` (made if it is not there). Returns the file.
pub fn write(run: &Run, folder: &Path) -> Result<PathBuf> {
    write_cells(run, folder, |folder| style_cells(run, folder))
}

/// Writes the cells that `make` gives for the absolute path of the notebook's folder.
pub(super) fn write_cells(run: &Run, folder: &Path, make: impl FnOnce(&Path) -> Result<Vec<Cell>>) -> Result<PathBuf> {
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
    let path = folder.join(format!("{}.ipynb", run.name));
    save(&path, &to_json(&notebook)?)?;
    Ok(path)
}

fn style_cells(run: &Run, folder: &Path) -> Result<Vec<Cell>> {
    let verdict = verdict(run);
    let colors = plots::strategy_colors(run);
    let colors = run.ranking().into_iter().map(|at| (run.results[at].strategy.clone(), colors[at]));
    let load = format!("{}\n\n{}", preamble(run, folder, colors)?, include_str!("load.py"));
    let mut cells = vec![introduction(run, &[verdict.sentence], &verdict.warnings), code("load", &load, Vec::new())];
    origin(run, folder, &mut cells);
    cells.push(markdown("results-title", "## Results\n\nThe best ArtFID first; lower is better."));
    cells.push(code("results", include_str!("results.py"), vec![Output::html(tables::results(run))]));
    figures(run, &mut cells)?;
    cases(run, &mut cells)?;
    let failed = tables::failed(run);
    if failed.has_rows() {
        cells.push(markdown("failed-title", "## Failed pictures"));
        cells.push(code("failed", include_str!("failed.py"), vec![Output::html(failed)]));
    }
    Ok(cells)
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
pub(super) fn introduction(run: &Run, sentences: &[String], warnings: &[String]) -> Cell {
    let said = |key: &str| run.config.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let name = if said("name").is_empty() { &run.name } else { said("name") };
    let mut text = format!("# {}\n", cells::plain(name));
    if !said("question").is_empty() {
        text += &format!("\n{}\n", cells::plain(said("question")));
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
        Some(command) if command.starts_with("./toolkit experiment") => format!(" `{command}` makes."),
        _ => " must be there.".to_string(),
    };
    markdown("title", &text)
}

/// The code that every notebook starts with; `colors` by name.
pub(super) fn preamble(run: &Run, folder: &Path, colors: impl Iterator<Item = (String, RGBColor)>) -> Result<String> {
    let dir = run.dir.canonicalize().with_context(|| format!("cannot find {}", run.dir.display()))?;
    let colors: Map<String, Value> = colors.map(|(name, color)| (name, page::css_color(color).into())).collect();
    // A JSON string or object of strings is one in Python, too.
    let code = include_str!("preamble.py").replace("@RUN@", &json!(relative(folder, &dir)).to_string());
    Ok(code.replace("@COLORS@", &serde_json::to_string_pretty(&colors)?))
}

/// The way from one folder to another, both absolute, with `/` between the names.
fn relative(from: &Path, to: &Path) -> String {
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[shared..].iter().map(|_| "..".to_string());
    let down = to[shared..].iter().map(|part: &Component| part.as_os_str().to_string_lossy().into_owned());
    let way: Vec<String> = up.chain(down).collect();
    if way.is_empty() { ".".to_string() } else { way.join("/") }
}

/// How the run was made, where its folder says so.
pub(super) fn origin(run: &Run, folder: &Path, cells: &mut Vec<Cell>) {
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

/// A cell for each plot that has something to show.
fn figures(run: &Run, cells: &mut Vec<Cell>) -> Result<()> {
    cells.push(markdown("plots-title", "## Plots"));
    let listed = &run.results[..run.listed];
    for (name, figure) in plots::all(run) {
        let (source, drawn) = match name {
            "frontier" => {
                let text = include_str!("frontier.py").replace("@LINES@", &frontier_lines(run)?);
                let png = Output::figure(&figure.png()?, (figure.width as u32, figure.height as u32));
                cells.push(self::cells::code("plot-frontier", &text, vec![png]));
                continue;
            }
            "artfid" => (include_str!("artfid.py"), listed.iter().any(|row| finite(row.artfid).is_some())),
            "fid_lpips" => {
                let both = |row: &super::rows::ResultRow| finite(row.fid).and(finite(row.lpips)).is_some();
                (include_str!("fid_lpips.py"), listed.iter().any(both))
            }
            _ => (include_str!("lpips.py"), run.items.iter().any(|item| finite(item.lpips).is_some())),
        };
        if drawn {
            let output = Output::figure(&figure.png()?, (figure.width as u32, figure.height as u32));
            cells.push(code(&format!("plot-{name}"), source, vec![output]));
        }
    }
    Ok(())
}

/// The lines of the frontier as a Python dictionary: name to colour and measured strategies.
fn frontier_lines(run: &Run) -> Result<String> {
    let mut shown = Map::new();
    for (at, line) in plots::lines::lines(run).into_iter().enumerate() {
        let measured = |row: &super::rows::ResultRow| finite(row.fid).and(finite(row.lpips)).is_some();
        let members = line.members.iter().filter(|member| **member < run.listed).map(|member| &run.results[*member]);
        let names: Vec<&str> = members.filter(|row| measured(row)).map(|row| row.strategy.as_str()).collect();
        if !names.is_empty() {
            shown.insert(line.name, json!([page::css_color(plots::color(at)), names]));
        }
    }
    Ok(serde_json::to_string_pretty(&shown)?)
}

/// A cell for each strategy: its successes and failures.
fn cases(run: &Run, cells: &mut Vec<Cell>) -> Result<()> {
    let rule = format!(
        "## Successes and failures\n\n{} By LPIPS alone where a style distance is missing. Above the successes, below \
         the failures; each photo is left of its picture.",
        gallery::RULE
    );
    cells.push(markdown("cases-title", &rule));
    cells.push(code("cases", include_str!("cases.py"), Vec::new()));
    for at in run.ranking() {
        let strategy = &run.results[at].strategy;
        let choice = gallery::choose(run.items_of(strategy));
        let outputs = if choice.rule == gallery::Rule::Unranked {
            vec![Output::stdout("No picture of this strategy was measured.\n".to_string())]
        } else {
            let line = |name: &str, items: &[&ItemRow]| -> Vec<montage::Case> {
                let case = |(at, item): (usize, &&ItemRow)| montage::Case {
                    title: format!("{name} {}: {}", at + 1, item.id),
                    files: vec![item.photo.clone(), item.image.clone()],
                };
                items.iter().enumerate().map(case).collect()
            };
            let lines = [line("success", &choice.successes), line("failure", &choice.failures)];
            let (jpeg, size) = montage::jpeg(&run.dir, &lines)?;
            vec![Output::displayed(tables::cases(&choice)), Output::photos(&jpeg, size)]
        };
        cells.push(code(&format!("cases-{at}"), &format!("cases({})", json!(strategy)), outputs));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn ways_between_folders() {
        let way = |from: &str, to: &str| super::relative(Path::new(from), Path::new(to));
        assert_eq!(way("/a/notebooks-export", "/a/runs/x"), "../runs/x");
        assert_eq!(way("/a", "/a/b"), "b");
        assert_eq!(way("/a/b/c", "/d"), "../../../d");
        assert_eq!(way("/a", "/a"), ".");
    }
}
