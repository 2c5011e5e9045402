//! `report.html` of a caption run.

use anyhow::Result;
use serde::Serialize;

use super::cases::{CASES, Case, choose};
use super::tables::{self, CaptionCell, CaptionTable, Compared};
use super::{CaptionRun, OF_CASES, agreement, verdict};
use crate::metrics::label;
use crate::report::Report;
use crate::report::correlations::Correlations;
use crate::report::figure::{Figure, Place};
use crate::report::number::short;
use crate::report::page::{Fact, commands, css_color};
use crate::report::plots::{Sheet, color};
use crate::report::thumbnails::{GALLERY, Thumbnail, thumbnails};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// Longer lists are cut; items.csv has them whole.
const MOST_FAILED: usize = 200;

#[derive(Debug, Serialize)]
struct Page {
    title: String,
    question: String,
    sentences: Vec<String>,
    warnings: Vec<String>,
    facts: Vec<Fact>,
    tables: Vec<CaptionTable>,
    /// What all models were asked, where it was one thing.
    prompt: String,
    published: Vec<(String, String, Vec<CaptionCell>)>,
    /// The metrics of the published table.
    of_published: Vec<&'static str>,
    compared: Vec<&'static str>,
    comparisons: Vec<Compared>,
    /// Wide, narrow, and what is said of it.
    plots: Vec<(String, String, &'static str)>,
    correlations: Vec<Correlations>,
    cases: usize,
    galleries: Vec<Gallery>,
    failed: Vec<(String, String, String, String)>,
    failed_more: usize,
    commands: Vec<String>,
    config: Option<String>,
    manifest: Option<String>,
    version: &'static str,
}

/// The chosen pictures of a data set.
#[derive(Debug, Serialize)]
struct Gallery {
    dataset: String,
    single: bool,
    differ: Vec<Shown>,
    fail: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    picture: Option<Thumbnail>,
    references: Vec<String>,
    said: Vec<Said>,
}

#[derive(Debug, Serialize)]
struct Said {
    model: String,
    color: String,
    caption: String,
    scores: String,
}

/// The page as text.
pub fn html(run: &CaptionRun) -> Result<String> {
    crate::report::page::fill(TEMPLATE, STYLE, &page(run)?)
}

fn page(run: &CaptionRun) -> Result<Page> {
    let failed: Vec<_> = run
        .items
        .iter()
        .filter(|item| !item.is_done())
        .map(|item| (item.id.clone(), item.dataset.clone(), item.model.clone(), item.error.clone()))
        .collect();
    let plot = |((stem, figure), (_, narrow)): ((&str, Figure), (&str, Figure))| {
        let caption = match stem {
            "scores" => "The scores of each model on each data set with their 95 % bootstrap intervals.",
            _ => {
                "BLEU and METEOR of each caption against its length. A line that falls to the right says that longer \
                 captions lose by their length: BLEU counts every word that no reference has."
            }
        };
        Ok((figure.svg(Place::Page)?, narrow.svg(Place::Page)?, caption))
    };
    Ok(Page {
        title: run.folder.title().to_string(),
        question: run.folder.setting("question").to_string(),
        sentences: verdict::sentences(run),
        warnings: verdict::warnings(run),
        facts: tables::facts(run),
        tables: tables::results(run, |model| model_color(run, model)),
        prompt: one_prompt(run),
        published: tables::published(run),
        of_published: tables::published_metrics(run).iter().map(|about| about.label).collect(),
        compared: tables::compared(run).iter().map(|about| about.label).collect(),
        comparisons: tables::comparisons(run),
        plots: run.figures(Sheet::Wide).into_iter().zip(run.figures(Sheet::Narrow)).map(plot).collect::<Result<_>>()?,
        correlations: [agreement::over_captions(run), agreement::over_models(run)].into_iter().flatten().collect(),
        cases: CASES,
        galleries: galleries(run),
        failed_more: failed.len().saturating_sub(MOST_FAILED),
        failed: failed.into_iter().take(MOST_FAILED).collect(),
        commands: commands(&run.folder),
        config: run.folder.config_text.clone(),
        manifest: run.folder.manifest_text()?,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The prompt of all rows, where they have the same.
fn one_prompt(run: &CaptionRun) -> String {
    let first = run.results.first().map(|row| row.prompt.as_str()).unwrap_or_default();
    let same = run.results.len() > 1 && run.results.iter().all(|row| row.prompt == first);
    if same { first.to_string() } else { String::new() }
}

fn model_color(run: &CaptionRun, model: &str) -> String {
    css_color(color(run.models().iter().position(|name| name == model).unwrap_or(0)))
}

fn galleries(run: &CaptionRun) -> Vec<Gallery> {
    let datasets = run.datasets();
    let choices: Vec<_> = datasets.iter().map(|dataset| choose(run, dataset)).collect();
    let all = choices.iter().flat_map(|choice| choice.differ.iter().chain(&choice.fail));
    let files: Vec<String> = all.filter_map(|case| Some(case.said.first()?.image.clone())).collect();
    let thumbnails = thumbnails(&run.folder.dir, &files, &GALLERY);
    let shown = |dataset: &str, case: &Case| Shown {
        id: case.id.clone(),
        picture: case.said.first().and_then(|item| thumbnails.get(&item.image)).cloned(),
        references: run.references.get(dataset).and_then(|of| of.get(&case.id)).cloned().unwrap_or_default(),
        said: case
            .said
            .iter()
            .map(|item| Said {
                model: item.model.clone(),
                color: model_color(run, &item.model),
                caption: item.caption.clone(),
                scores: OF_CASES.map(|name| format!("{} {}", label(name), short(item.values.value(name)))).join(", "),
            })
            .collect(),
    };
    let gallery = |(dataset, choice): (&String, &super::cases::Choice)| Gallery {
        dataset: dataset.clone(),
        single: run.models().len() < 2,
        differ: choice.differ.iter().map(|case| shown(dataset, case)).collect(),
        fail: choice.fail.iter().map(|case| shown(dataset, case)).collect(),
    };
    datasets.iter().zip(&choices).map(gallery).collect()
}
