//! A caption run as a Jupyter notebook; see [`crate::report::notebook`].

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::cases::{Case, choose};
use super::tables::COMPARED;
use super::{CaptionRun, verdict};
use crate::report::Report;
use crate::report::notebook::cells::{Cell, Output, code, markdown};
use crate::report::notebook::tables::{Table, number};
use crate::report::notebook::{introduction, montage, origin, preamble};
use crate::report::number::finite;
use crate::report::plots::color;
use crate::run::caption::CaptionItem;

/// The cells of the notebook in this folder.
pub fn cells(run: &CaptionRun, folder: &Path) -> Result<Vec<Cell>> {
    let colors = run.models().into_iter().enumerate().map(|(at, model)| (model, color(at)));
    let load = format!("{}\n\n{}", preamble(&run.folder, folder, colors)?, include_str!("load.py"));
    let mut cells = vec![
        introduction(&run.folder, &verdict::sentences(run), &verdict::warnings(run)),
        code("load", &load, Vec::new()),
    ];
    origin(&run.folder, folder, &mut cells);
    cells.push(markdown("results-title", "## Results\n\nHigher is better; below the 95 % bootstrap intervals."));
    cells.push(code("results", include_str!("results.py"), vec![Output::html(results(run))]));
    cells.push(code("intervals", include_str!("intervals.py"), vec![Output::html(intervals(run))]));
    published(run, &mut cells)?;
    comparisons(run, &mut cells);
    plots(run, &mut cells)?;
    cases(run, &mut cells)?;
    failed(run, &mut cells);
    Ok(cells)
}

fn results(run: &CaptionRun) -> Table {
    let row = |row: &crate::run::caption::CaptionResult| {
        let values = [row.bleu, row.rouge1, row.rouge2, row.meteor, row.cider, row.words, row.images_per_second];
        let names = [row.dataset.clone(), row.model.clone(), row.n.to_string()];
        names.into_iter().chain(values.map(number)).collect()
    };
    let columns =
        vec!["dataset", "model", "n", "bleu", "rouge1", "rouge2", "meteor", "cider", "words", "images_per_second"];
    Table { columns, rows: run.results.iter().map(row).collect() }
}

fn intervals(run: &CaptionRun) -> Table {
    let row = |row: &crate::run::caption::CaptionResult| {
        let values = [row.bleu, row.bleu_low, row.bleu_high, row.meteor, row.meteor_low, row.meteor_high];
        [row.dataset.clone(), row.model.clone()].into_iter().chain(values.map(number)).collect()
    };
    let columns = vec!["dataset", "model", "bleu", "bleu_low", "bleu_high", "meteor", "meteor_low", "meteor_high"];
    Table { columns, rows: run.results.iter().map(row).collect() }
}

/// Only where something was published of what was measured.
fn published(run: &CaptionRun, cells: &mut Vec<Cell>) -> Result<()> {
    let row = |row: &crate::run::caption::CaptionResult| {
        let line = run.published_of(row)?;
        let pairs =
            [(row.bleu, line.bleu), (row.rouge1, line.rouge1), (row.rouge2, line.rouge2), (row.meteor, line.meteor)];
        let values = pairs.into_iter().flat_map(|(measured, published)| [number(measured), number(Some(published))]);
        Some([row.dataset.clone(), row.model.clone()].into_iter().chain(values).collect())
    };
    let rows: Vec<Vec<String>> = run.results.iter().filter_map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let columns = vec![
        "dataset",
        "model",
        "bleu",
        "bleu_published",
        "rouge1",
        "rouge1_published",
        "rouge2",
        "rouge2_published",
        "meteor",
        "meteor_published",
    ];
    let source = include_str!("published.py").replace("@PUBLISHED@", &serde_json::to_string_pretty(&run.published)?);
    cells.push(markdown("published-title", "## Beside the published table"));
    cells.push(code("published", &source, vec![Output::html(Table { columns, rows })]));
    Ok(())
}

fn comparisons(run: &CaptionRun, cells: &mut Vec<Cell>) {
    let rows: Vec<Vec<String>> = run
        .comparisons
        .iter()
        .filter(|row| COMPARED.iter().any(|(metric, _)| row.metric == *metric))
        .map(|row| {
            let names = [&row.dataset, &row.first, &row.second, &row.metric].map(String::clone);
            let values = [row.difference, row.low, row.high, row.p_value].map(|value| number(Some(value)));
            names.into_iter().chain(values).collect()
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    let columns = vec!["dataset", "first", "second", "metric", "difference", "low", "high", "p_value"];
    let text = "## Model against model\n\nThe first's score less the second's, by paired bootstrap over the pictures that \
                both described, with the 95 % interval and the two-sided probability of such a difference by chance.";
    cells.push(markdown("comparisons-title", text));
    cells.push(code("comparisons", include_str!("comparisons.py"), vec![Output::html(Table { columns, rows })]));
}

fn plots(run: &CaptionRun, cells: &mut Vec<Cell>) -> Result<()> {
    if run.items.iter().all(|item| finite(item.meteor).is_none()) {
        return Ok(());
    }
    cells.push(markdown("plots-title", "## Plots"));
    for (name, figure) in run.figures() {
        let source = if name == "scores" { include_str!("scores.py") } else { include_str!("length.py") };
        let output = Output::figure(&figure.png()?, (figure.width as u32, figure.height as u32));
        cells.push(code(&format!("plot-{name}"), source, vec![output]));
    }
    Ok(())
}

/// A cell for each data set: its chosen pictures.
fn cases(run: &CaptionRun, cells: &mut Vec<Cell>) -> Result<()> {
    let rule = "## Case studies\n\nFor each data set the pictures where the models differ most (the largest gap between \
                their METEOR), and those of the others where all of them fail (the lowest METEOR of the best model).";
    cells.push(markdown("cases-title", rule));
    cells.push(code("cases", include_str!("cases.py"), Vec::new()));
    for (at, dataset) in run.datasets().iter().enumerate() {
        let choice = choose(run, dataset);
        let single = run.results.iter().filter(|row| row.dataset == *dataset && row.n > 0).count() < 2;
        let kinds = [(if single { "best" } else { "differ" }, &choice.differ), ("fail", &choice.fail)];
        let outputs = if choice.differ.is_empty() && choice.fail.is_empty() {
            vec![Output::stdout("No picture of this data set was scored for every model.\n".to_string())]
        } else {
            let (jpeg, size) = montage::jpeg(&run.folder.dir, &kinds.map(|(kind, cases)| pictures(kind, cases)))?;
            vec![Output::displayed(said(run, dataset, &kinds)), Output::photos(&jpeg, size)]
        };
        cells.push(code(&format!("cases-{at}"), &format!("cases({})", json!(dataset)), outputs));
    }
    Ok(())
}

fn pictures(kind: &str, cases: &[Case]) -> Vec<montage::Case> {
    let picture = |(at, case): (usize, &Case)| montage::Case {
        title: format!("{kind} {}: {}", at + 1, case.id),
        files: case.said.first().map(|item| item.image.clone()).into_iter().collect(),
    };
    cases.iter().enumerate().map(picture).collect()
}

/// What each model said of the chosen pictures, and what people wrote.
fn said(run: &CaptionRun, dataset: &str, kinds: &[(&str, &Vec<Case>)]) -> Table {
    let mut rows = Vec::new();
    for (kind, cases) in kinds {
        for case in cases.iter() {
            let line = |who: &str, caption: String, scores: [Option<f64>; 4]| -> Vec<String> {
                let names = [kind.to_string(), case.id.clone(), who.to_string(), caption];
                names.into_iter().chain(scores.map(number)).collect()
            };
            let model = |item: &&CaptionItem| {
                line(&item.model, item.caption.clone(), [item.meteor, item.bleu, item.rouge1, item.cider])
            };
            rows.extend(case.said.iter().map(model));
            let people = run.references.get(dataset).and_then(|of| of.get(&case.id)).map(|texts| texts.join(" / "));
            rows.push(line("people", people.unwrap_or_default(), [None; 4]));
        }
    }
    Table { columns: vec!["case", "id", "who", "caption", "meteor", "bleu", "rouge1", "cider"], rows }
}

fn failed(run: &CaptionRun, cells: &mut Vec<Cell>) {
    let failed = run.items.iter().filter(|item| !item.is_done());
    let row = |item: &CaptionItem| [&item.id, &item.dataset, &item.model, &item.error].map(String::clone).to_vec();
    let table = Table { columns: vec!["id", "dataset", "model", "error"], rows: failed.map(row).collect() };
    if table.has_rows() {
        cells.push(markdown("failed-title", "## Failed captions"));
        cells.push(code("failed", include_str!("failed.py"), vec![Output::html(table)]));
    }
}
