//! A style run as a Jupyter notebook; see [`crate::report::notebook`].

mod tables;

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, json};

use super::verdict::verdict;
use super::{StyleRun, gallery, plots};
use crate::report::notebook::cells::{Cell, Output, code, markdown};
use crate::report::notebook::{introduction, montage, origin, preamble};
use crate::report::number::finite;
use crate::report::page::css_color;
use crate::report::plots::color;
use crate::run::style::{ItemRow, ResultRow};

pub fn cells(run: &StyleRun, folder: &Path) -> Result<Vec<Cell>> {
    let verdict = verdict(run);
    let colors = plots::strategy_colors(run);
    let colors = run.ranking().into_iter().map(|at| (run.results[at].strategy.clone(), colors[at]));
    let load = format!("{}\n\n{}", preamble(&run.folder, folder, colors)?, include_str!("load.py"));
    let mut cells =
        vec![introduction(&run.folder, &[verdict.sentence], &verdict.warnings), code("load", &load, Vec::new())];
    origin(&run.folder, folder, &mut cells);
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

/// A cell for each plot that has something to show.
fn figures(run: &StyleRun, cells: &mut Vec<Cell>) -> Result<()> {
    cells.push(markdown("plots-title", "## Plots"));
    let listed = &run.results[..run.listed];
    for (name, figure) in plots::all(run) {
        let (source, drawn) = match name {
            "frontier" => {
                let text = include_str!("frontier.py").replace("@LINES@", &frontier_lines(run)?);
                let png = Output::figure(&figure.png()?, (figure.width as u32, figure.height as u32));
                cells.push(code("plot-frontier", &text, vec![png]));
                continue;
            }
            "artfid" => (include_str!("artfid.py"), listed.iter().any(|row| finite(row.artfid).is_some())),
            "fid_lpips" => {
                let both = |row: &ResultRow| finite(row.fid).and(finite(row.lpips)).is_some();
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
fn frontier_lines(run: &StyleRun) -> Result<String> {
    let mut shown = Map::new();
    for (at, line) in plots::lines::lines(run).into_iter().enumerate() {
        let measured = |row: &ResultRow| finite(row.fid).and(finite(row.lpips)).is_some();
        let members = line.members.iter().filter(|member| **member < run.listed).map(|member| &run.results[*member]);
        let names: Vec<&str> = members.filter(|row| measured(row)).map(|row| row.strategy.as_str()).collect();
        if !names.is_empty() {
            shown.insert(line.name, json!([css_color(color(at)), names]));
        }
    }
    Ok(serde_json::to_string_pretty(&shown)?)
}

/// A cell for each strategy: its successes and failures.
fn cases(run: &StyleRun, cells: &mut Vec<Cell>) -> Result<()> {
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
            let (jpeg, size) = montage::jpeg(&run.folder.dir, &lines)?;
            vec![Output::displayed(tables::cases(&choice)), Output::photos(&jpeg, size)]
        };
        cells.push(code(&format!("cases-{at}"), &format!("cases({})", json!(strategy)), outputs));
    }
    Ok(())
}
