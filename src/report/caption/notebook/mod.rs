//! A caption run as a Jupyter notebook; see [`crate::report::notebook`].

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::cases::{Case, choose};
use super::{AGAINST_LENGTH, CaptionRun, DECIDING, OF_CASES, agreement, tables, verdict};
use crate::metrics::{About, find};
use crate::report::Report;
use crate::report::notebook::cells::{NotebookCell, Output, code, markdown};
use crate::report::notebook::tables::{NotebookTable, number};
use crate::report::notebook::{ITEMS, agree, introduction, list, montage, origin, preamble, with_alt};
use crate::report::plots::{Sheet, color};
use crate::run::caption::{CaptionItem, CaptionResult};

/// The cells of the notebook in this folder.
pub fn cells(run: &CaptionRun, folder: &Path) -> Result<Vec<NotebookCell>> {
    let colors = run.models().into_iter().enumerate().map(|(at, model)| (model, color(at)));
    let load = format!("{}\n\n{}", preamble(&run.folder, folder, colors)?, filled(run, include_str!("load.py")));
    let mut cells = vec![
        introduction(&run.folder, &verdict::sentences(run), &verdict::warnings(run)),
        code("load", &load, Vec::new()),
    ];
    origin(&run.folder, folder, &mut cells);
    cells.push(markdown("results-title", "## Results\n\nHigher is better; below the 95 % bootstrap intervals."));
    cells.push(code("results", &filled(run, include_str!("results.py")), vec![Output::html(results(run))]));
    cells.push(code("intervals", &filled(run, include_str!("intervals.py")), vec![Output::html(intervals(run))]));
    published(run, &mut cells)?;
    comparisons(run, &mut cells);
    plots(run, &mut cells)?;
    let results = ("results.csv", "model", "");
    agree(&mut cells, [(ITEMS, agreement::over_captions(run)), (results, agreement::over_models(run))]);
    cases(run, &mut cells)?;
    failed(run, &mut cells);
    Ok(cells)
}

/// A table of the results: data set, model, and columns of numbers.
fn table(run: &CaptionRun, columns: Vec<(String, Number)>) -> NotebookTable {
    let row = |row: &CaptionResult| {
        let values = columns.iter().map(|(_, value)| value(row));
        [row.dataset.clone(), row.model.clone()].into_iter().chain(values).collect()
    };
    let rows = run.results.iter().map(row).collect();
    let names = columns.iter().map(|(name, _)| name.clone());
    NotebookTable { columns: ["dataset", "model"].map(String::from).into_iter().chain(names).collect(), rows }
}

/// A number of a row, as text.
type Number = Box<dyn Fn(&CaptionResult) -> String>;

fn value_of(about: &'static About) -> (String, Number) {
    (about.name.to_string(), Box::new(|row| number(row.values.value(about.name))))
}

fn results(run: &CaptionRun) -> NotebookTable {
    let mut columns: Vec<(String, Number)> = vec![("n".to_string(), Box::new(|row| row.n.to_string()))];
    columns.extend(tables::compared(run).into_iter().map(value_of));
    columns.push(("words".to_string(), Box::new(|row| number(row.words))));
    columns.push(("images_per_second".to_string(), Box::new(|row| number(row.images_per_second))));
    table(run, columns)
}

/// The metrics whose intervals are shown: those of the plots against length.
fn with_intervals() -> Vec<&'static About> {
    AGAINST_LENGTH.iter().filter_map(|name| find(name)).map(|metric| metric.about()).collect()
}

fn intervals(run: &CaptionRun) -> NotebookTable {
    let columns = with_intervals().into_iter().flat_map(|about| -> [(String, Number); 3] {
        [
            value_of(about),
            (about.low(), Box::new(|row| number(row.values.get(about.name).low))),
            (about.high(), Box::new(|row| number(row.values.get(about.name).high))),
        ]
    });
    table(run, columns.collect())
}

/// The code of a cell with the names of metrics in their places.
fn filled(run: &CaptionRun, source: &str) -> String {
    let names = |abouts: Vec<&'static About>| list(abouts.iter().map(|about| about.name));
    let (compared, headline) = (tables::compared(run), tables::published_metrics(run));
    let intervals = with_intervals();
    let ends = |about: &About| [about.low(), about.high()];
    let scores = compared.iter().flat_map(|about| {
        let ends = intervals.iter().filter(|other| other.name == about.name).flat_map(|about| ends(about));
        [about.name.to_string()].into_iter().chain(ends)
    });
    let of_items = AGAINST_LENGTH.iter().chain(OF_CASES.iter());
    let of_items = compared.iter().map(|about| about.name).filter(|name| of_items.clone().any(|other| other == name));
    source
        .replace("@ITEM_SCORES@", &list(["words"].into_iter().chain(of_items)))
        .replace("@SCORES@", &list(scores))
        .replace("@ENDS@", &list(intervals.iter().flat_map(|about| ends(about)).chain(["reference_words".to_string()])))
        .replace("@WITH_INTERVALS@", &{
            let whole = intervals.iter().flat_map(|about| [about.name.to_string()].into_iter().chain(ends(about)));
            list(["dataset", "model"].map(String::from).into_iter().chain(whole))
        })
        .replace("@COMPARED@", &names(compared))
        .replace("@LABELS@", &list(headline.iter().map(|about| about.label)))
        .replace("@HEADLINE@", &names(headline))
        .replace("@AGAINST_LENGTH@", &list(AGAINST_LENGTH))
        .replace("@OF_CASES@", &list(OF_CASES))
        .replace("@DECIDING@", DECIDING)
}

/// Only where something was published of what was measured.
fn published(run: &CaptionRun, cells: &mut Vec<NotebookCell>) -> Result<()> {
    let metrics = tables::published_metrics(run);
    let row = |row: &CaptionResult| {
        let line = run.published_of(row)?;
        let pair = |about: &&About| [row.values.value(about.name), line.value(about.name)].map(number);
        let values = metrics.iter().flat_map(pair);
        Some([row.dataset.clone(), row.model.clone()].into_iter().chain(values).collect())
    };
    let rows: Vec<Vec<String>> = run.results.iter().filter_map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let names = metrics.iter().flat_map(|about| [about.name.to_string(), format!("{}_published", about.name)]);
    let columns = ["dataset", "model"].map(String::from).into_iter().chain(names).collect();
    let source = filled(run, include_str!("published.py"));
    let source = source.replace("@PUBLISHED@", &serde_json::to_string_pretty(&run.published)?);
    cells.push(markdown("published-title", "## Beside the published table"));
    cells.push(code("published", &source, vec![Output::html(NotebookTable { columns, rows })]));
    Ok(())
}

fn comparisons(run: &CaptionRun, cells: &mut Vec<NotebookCell>) {
    let metrics = tables::compared(run);
    let rows: Vec<Vec<String>> = run
        .comparisons
        .iter()
        .filter(|row| metrics.iter().any(|about| row.metric == about.name))
        .map(|row| {
            let names = [&row.dataset, &row.first, &row.second, &row.metric].map(String::clone);
            let values =
                [row.difference, row.low, row.high, row.p_value, row.corrected()].map(|value| number(Some(value)));
            names.into_iter().chain(values).collect()
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    let columns = ["dataset", "first", "second", "metric", "difference", "low", "high", "p_value", "p_holm"];
    let text = "## Model against model\n\nThe first's score less the second's, by paired bootstrap over the pictures that \
                both described, with the 95 % interval, the two-sided probability of such a difference by chance, and \
                the same after Holm's correction over all pairs.";
    cells.push(markdown("comparisons-title", text));
    let table = NotebookTable { columns: columns.map(String::from).into(), rows };
    cells.push(code("comparisons", &filled(run, include_str!("comparisons.py")), vec![Output::html(table)]));
}

fn plots(run: &CaptionRun, cells: &mut Vec<NotebookCell>) -> Result<()> {
    if run.items.iter().all(|item| item.values.value(DECIDING).is_none()) {
        return Ok(());
    }
    cells.push(markdown("plots-title", "## Plots"));
    for (name, figure) in run.figures(Sheet::Wide) {
        let source = if name == "scores" {
            filled(run, include_str!("scores.py"))
        } else {
            filled(run, include_str!("length.py"))
        };
        cells.push(code(&format!("plot-{name}"), &with_alt(&source, &figure), vec![Output::figure(&figure)?]));
    }
    Ok(())
}

/// A cell for each data set: its chosen pictures.
fn cases(run: &CaptionRun, cells: &mut Vec<NotebookCell>) -> Result<()> {
    let rule = "## Case studies\n\nFor each data set the pictures where the models differ most (the largest gap between \
                their METEOR), and those of the others with the lowest scores (METEOR of the best model).";
    cells.push(markdown("cases-title", rule));
    cells.push(code("cases", &filled(run, include_str!("cases.py")), Vec::new()));
    for (at, dataset) in run.datasets().iter().enumerate() {
        let choice = choose(run, dataset);
        let single = run.results.iter().filter(|row| row.dataset == *dataset && row.n > 0).count() < 2;
        let kinds = [(if single { "best" } else { "differ" }, &choice.differ), ("lowest", &choice.fail)];
        let outputs = if choice.differ.is_empty() && choice.fail.is_empty() {
            vec![Output::stdout("No picture of this data set was scored for every model.\n".to_string())]
        } else {
            let (jpeg, size) = montage::jpeg(&run.folder.dir, &kinds.map(|(kind, cases)| pictures(kind, cases)))?;
            let told = kinds.iter().flat_map(|(kind, cases)| cases.iter().map(move |case| (kind, case)));
            let told: Vec<String> = told
                .map(|(kind, case)| {
                    let caption = case.said.first().map_or("", |item| item.caption.as_str());
                    format!("{kind} {}: {caption}", case.id)
                })
                .collect();
            let alt = format!("{dataset}. {}", told.join("; "));
            vec![Output::displayed(said(run, dataset, &kinds)), Output::photos(&jpeg, size, &alt)]
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
fn said(run: &CaptionRun, dataset: &str, kinds: &[(&str, &Vec<Case>)]) -> NotebookTable {
    let mut rows = Vec::new();
    for (kind, cases) in kinds {
        for case in cases.iter() {
            let line = |who: &str, caption: String, scores: [Option<f64>; 4]| -> Vec<String> {
                let names = [kind.to_string(), case.id.clone(), who.to_string(), caption];
                names.into_iter().chain(scores.map(number)).collect()
            };
            let model = |item: &&CaptionItem| {
                line(&item.model, item.caption.clone(), OF_CASES.map(|name| item.values.value(name)))
            };
            rows.extend(case.said.iter().map(model));
            let people = run.references.get(dataset).and_then(|of| of.get(&case.id)).map(|texts| texts.join(" / "));
            rows.push(line("people", people.unwrap_or_default(), [None; 4]));
        }
    }
    let columns = ["case", "id", "who", "caption"].into_iter().chain(OF_CASES).map(String::from).collect();
    NotebookTable { columns, rows }
}

fn failed(run: &CaptionRun, cells: &mut Vec<NotebookCell>) {
    let failed = run.items.iter().filter(|item| !item.is_done());
    let row = |item: &CaptionItem| [&item.id, &item.dataset, &item.model, &item.error].map(String::clone).to_vec();
    let columns = ["id", "dataset", "model", "error"].map(String::from).into();
    let table = NotebookTable { columns, rows: failed.map(row).collect() };
    if table.has_rows() {
        cells.push(markdown("failed-title", "## Failed captions"));
        cells.push(code("failed", include_str!("failed.py"), vec![Output::html(table)]));
    }
}
