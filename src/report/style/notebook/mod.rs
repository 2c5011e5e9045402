//! A style run as a Jupyter notebook; see [`crate::report::notebook`].

mod people;
mod tables;

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, json};

use super::people::said;
use super::verdict::verdict;
use super::{DECIDING, PHOTO, STYLE, StyleRun, agreement, gallery, people_verdict, plots};
use crate::metrics::{Show, find};
use crate::report::notebook::cells::{NotebookCell, Output, code, markdown};
use crate::report::notebook::{ITEMS, agree, introduction, list, montage, origin, preamble, with_alt};
use crate::report::page::css_color;
use crate::report::plots::{Sheet, color};
use crate::run::factors::factors;
use crate::run::shown;
use crate::run::style::{ItemRow, ResultRow};

pub fn cells(run: &StyleRun, folder: &Path) -> Result<Vec<NotebookCell>> {
    let verdict = verdict(run);
    let people = said(run).and_then(|said| people_verdict::verdict(run, &said));
    let sentences: Vec<String> = [verdict.sentence].into_iter().chain(people).collect();
    let colors = plots::strategy_colors(run);
    let colors = run.ranking().into_iter().map(|at| (run.results[at].strategy.clone(), colors[at]));
    let load = format!("{}\n\n{}", preamble(&run.folder, folder, colors)?, load(run));
    let mut cells = vec![introduction(&run.folder, &sentences, &verdict.warnings), code("load", &load, Vec::new())];
    origin(&run.folder, folder, &mut cells);
    cells.push(markdown("results-title", "## Results\n\nThe best ArtFID first; lower is better."));
    cells.push(code("results", include_str!("results.py"), vec![Output::html(tables::results(run))]));
    let compared = tables::comparisons(run);
    if compared.has_rows() {
        let text = "## Strategy against strategy\n\nThe best against each other: the first's score less the second's on the \
                    photos that both have a picture of, by paired bootstrap over the photos, with the 95 % interval, the \
                    two-sided probability of such a difference by chance, and the same after Holm's correction over all pairs.";
        cells.push(markdown("comparisons-title", text));
        cells.push(code("comparisons", include_str!("comparisons.py"), vec![Output::html(compared)]));
    }
    let effects = tables::effects(run);
    if effects.has_rows() {
        let text = "## What each axis does\n\nThe mean ArtFID of the strategies with a value, over the photos that all of them \
                    have a picture of, with its 95 % interval, and the two-sided probability that it differs by chance from the \
                    mean of the axis's other values; p_holm is the same after Holm's correction over all axes and \
                    values, the two values of an axis being one test.";
        let source = include_str!("effects.py").replace("@DECIDING@", DECIDING.name);
        cells.push(markdown("effects-title", text));
        cells.push(code("effects", &source, vec![Output::html(effects)]));
    }
    figures(run, &mut cells)?;
    let results = ("results.csv", "strategy", "");
    agree(&mut cells, [(ITEMS, agreement::over_pictures(run)), (results, agreement::over_strategies(run))]);
    people::cells(run, &mut cells);
    cases(run, &mut cells)?;
    let failed = tables::failed(run);
    if failed.has_rows() {
        cells.push(markdown("failed-title", "## Failed pictures"));
        cells.push(code("failed", include_str!("failed.py"), vec![Output::html(failed)]));
    }
    Ok(cells)
}

/// A cell for each plot that has something to show.
fn figures(run: &StyleRun, cells: &mut Vec<NotebookCell>) -> Result<()> {
    cells.push(markdown("plots-title", "## Plots"));
    let listed = &run.results[..run.listed];
    for (name, figure) in plots::all(run, Sheet::Wide) {
        let (source, drawn) = match name {
            "frontier" if plots::lines::lines(run).is_empty() => (include_str!("ways.py").to_string(), true),
            "frontier" => {
                let text = include_str!("frontier.py").replace("@LINES@", &frontier_lines(run)?);
                cells.push(code("plot-frontier", &with_alt(&text, &figure), vec![Output::figure(&figure)?]));
                continue;
            }
            "interaction" => {
                let source = include_str!("interaction.py").replace("@FACTORS@", &interaction_factors(run)?);
                let source = with_alt(&source.replace("@DECIDING@", DECIDING.name), &figure);
                cells.push(code("plot-interaction", &source, vec![Output::figure(&figure)?]));
                continue;
            }
            "fid_lpips" => {
                let both = |row: &ResultRow| row.values.value(STYLE.name).and(row.values.value(PHOTO.name)).is_some();
                (include_str!("fid_lpips.py").to_string(), listed.iter().any(both))
            }
            name => of_metric(run, name),
        };
        if drawn {
            cells.push(code(&format!("plot-{name}"), &with_alt(&source, &figure), vec![Output::figure(&figure)?]));
        }
    }
    Ok(())
}

/// The code of the plot of one metric, and whether there is something to draw.
fn of_metric(run: &StyleRun, name: &str) -> (String, bool) {
    let Some(about) = find(name).map(|metric| metric.about()) else { return (String::new(), false) };
    let (source, drawn) = if about.item.is_some() {
        (include_str!("spread.py"), run.items.iter().any(|item| item.values.value(name).is_some()))
    } else {
        let listed = &run.results[..run.listed];
        (include_str!("bars.py"), listed.iter().any(|row| row.values.value(name).is_some()))
    };
    let better = if about.higher_is_better { "higher" } else { "lower" };
    let sorted = match (name == DECIDING.name, about.higher_is_better) {
        (true, _) => String::new(),
        (_, false) => format!(".sort_values(\"{name}\", kind=\"stable\")"),
        (_, true) => format!(".sort_values(\"{name}\", kind=\"stable\", ascending=False)"),
    };
    let source = source.replace("@NAME@", name).replace("@LABEL@", about.label);
    (source.replace("@BETTER@", better).replace("@SORTED@", &sorted), drawn)
}

/// The code that reads the tables.
fn load(run: &StyleRun) -> String {
    let abouts = shown(&run.results, Show::Table);
    let of_items = abouts.iter().filter(|about| about.item.is_some()).map(|about| about.name);
    let intervals = abouts.iter().filter(|about| about.interval && about.show < Show::Compared);
    include_str!("load.py")
        .replace("@ITEMS@", &list(["seed"].into_iter().chain(of_items).chain(["style_distance", "gallery_score"])))
        .replace("@NUMBERS@", &list(tables::numbers(run).iter().map(|(name, _)| name)))
        .replace("@INTERVALS@", &list(intervals.flat_map(|about| [about.low(), about.high()])))
        .replace("@DECIDING@", DECIDING.name)
}

/// The axes that vary as a Python dictionary: key to the name of each strategy's value.
fn interaction_factors(run: &StyleRun) -> Result<String> {
    let listed = &run.results[..run.listed];
    let mut shown = Map::new();
    for factor in factors(&run.folder.config, listed) {
        let name = |(row, value): (&ResultRow, &usize)| (row.strategy.clone(), json!(factor.values[*value]));
        let of_strategies: Map<String, serde_json::Value> = listed.iter().zip(&factor.of_rows).map(name).collect();
        shown.insert(factor.axis.key.to_string(), json!(of_strategies));
    }
    Ok(serde_json::to_string_pretty(&shown)?)
}

/// The lines of the frontier as a Python dictionary: name to colour and measured strategies.
fn frontier_lines(run: &StyleRun) -> Result<String> {
    let mut shown = Map::new();
    for (at, line) in plots::lines::lines(run).into_iter().enumerate() {
        let measured = |row: &ResultRow| row.values.value(STYLE.name).and(row.values.value(PHOTO.name)).is_some();
        let members = line.members.iter().filter(|member| **member < run.listed).map(|member| &run.results[*member]);
        let names: Vec<&str> = members.filter(|row| measured(row)).map(|row| row.strategy.as_str()).collect();
        if !names.is_empty() {
            shown.insert(line.name, json!([css_color(color(at)), names]));
        }
    }
    Ok(serde_json::to_string_pretty(&shown)?)
}

/// A cell for each strategy: its successes and failures.
fn cases(run: &StyleRun, cells: &mut Vec<NotebookCell>) -> Result<()> {
    let rated = people::has_ratings(run);
    let (title, rated_rule) = if rated {
        ("Successes and failures", format!("{}\n\n", gallery::RATED))
    } else {
        ("Best and worst scores", String::new())
    };
    let rule = format!(
        "## {title}\n\n{rated_rule}{} By LPIPS alone where a style distance is missing. Above the best, below the worst; each \
         photo is left of its picture.",
        gallery::RULE
    );
    cells.push(markdown("cases-title", &rule));
    let choose = if rated { "by_people(shown, count) or " } else { "" };
    cells.push(code("cases", &include_str!("cases.py").replace("@CHOOSE@", choose), Vec::new()));
    for at in run.ranking() {
        let strategy = &run.results[at].strategy;
        let choice = run.choice(strategy);
        let [best, worst] = choice.cases();
        let none = choice.successes.is_empty() && choice.failures.is_empty();
        let outputs = if choice.rule == gallery::Rule::Unranked || none {
            vec![Output::stdout("No picture of this strategy was measured.\n".to_string())]
        } else {
            let line = |name: &str, items: &[&ItemRow]| -> Vec<montage::Case> {
                let case = |(at, item): (usize, &&ItemRow)| montage::Case {
                    title: format!("{name} {}: {}", at + 1, item.id),
                    files: vec![item.photo.clone(), item.image.clone()],
                };
                items.iter().enumerate().map(case).collect()
            };
            let lines = [line(best, &choice.successes), line(worst, &choice.failures)];
            let (jpeg, size) = montage::jpeg(&run.folder.dir, &lines)?;
            let said = [(best, &choice.successes), (worst, &choice.failures)];
            let said = said.iter().flat_map(|(case, items)| items.iter().map(move |item| (case, item)));
            let said: Vec<String> = said.map(|(case, item)| format!("{case} {}: {}", item.id, item.prompt)).collect();
            let alt = format!("{strategy}. {}", said.join("; "));
            vec![Output::displayed(tables::cases(&choice)), Output::photos(&jpeg, size, &alt)]
        };
        cells.push(code(&format!("cases-{at}"), &format!("cases({})", json!(strategy)), outputs));
    }
    Ok(())
}
