//! `report.html`: one file that opens anywhere. Everything a run says goes through the template's
//! escaping; the page itself forbids any script but its own and any request.

pub(super) mod tables;

use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::tables::{Cell, Column, Fact, Remark};
pub(super) use self::tables::{commands, css_color};
use super::figure::Place;
use super::gallery::{self, Rule};
use super::number::short;
use super::rows::ItemRow;
use super::thumbnails::{Thumbnail, thumbnails};
use super::verdict::verdict;
use super::{Run, plots, save};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Everything the template shows.
#[derive(Debug, Serialize)]
struct Page {
    title: String,
    question: String,
    sentence: String,
    warnings: Vec<String>,
    facts: Vec<Fact>,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    plots: Vec<Plot>,
    strategies: Vec<Strategy>,
    failed: Vec<Remark>,
    failed_more: usize,
    remarks: Vec<Remark>,
    remarks_more: usize,
    commands: Vec<String>,
    config: Option<String>,
    manifest: Option<String>,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Plot {
    svg: String,
    caption: &'static str,
}

/// A strategy's gallery.
#[derive(Debug, Serialize)]
struct Strategy {
    name: String,
    color: String,
    style_text: String,
    numbers: String,
    note: &'static str,
    best: Vec<Case>,
    worst: Vec<Case>,
}

/// One picture beside its photo.
#[derive(Debug, Serialize)]
struct Case {
    id: String,
    photo: Option<Thumbnail>,
    picture: Option<Thumbnail>,
    lpips: String,
    style_distance: String,
    caption: String,
    prompt: String,
    dropped: String,
    remark: String,
    seed: u64,
    image: String,
}

/// Writes the page into the run folder. Returns the file.
pub fn write(run: &Run) -> Result<PathBuf> {
    let path = run.dir.join("report.html");
    save(&path, html(run)?.as_bytes())?;
    Ok(path)
}

/// The page as text.
pub fn html(run: &Run) -> Result<String> {
    fill(TEMPLATE, "", &page(run)?)
}

/// Fills a template that has the parts of this page; `extra` is style of its own.
pub(super) fn fill(template: &str, extra: &str, page: &impl Serialize) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("page", template)?;
    let hash = BASE64_STANDARD.encode(Sha256::digest(SCRIPT));
    let style = format!("{STYLE}{extra}");
    let parts = minijinja::context! { page => page, style => style, script => SCRIPT, script_hash => hash };
    environment.get_template("page")?.render(parts).context("cannot fill the page's template")
}

fn page(run: &Run) -> Result<Page> {
    let verdict = verdict(run);
    let (failed, failed_more) = tables::remarks(run.items.iter().filter(|item| item.status == "failed"), |i| &i.error);
    let (remarks, remarks_more) =
        tables::remarks(run.items.iter().filter(|item| !item.remark.is_empty()), |i| &i.remark);
    let (columns, rows) = tables::results(run);
    let config_value = |key: &str| run.config.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_string();
    let name = config_value("name");
    Ok(Page {
        title: if name.is_empty() { run.name.clone() } else { name },
        question: config_value("question"),
        sentence: verdict.sentence,
        warnings: verdict.warnings,
        facts: tables::facts(run),
        columns,
        rows,
        plots: plots(run)?,
        strategies: strategies(run),
        failed,
        failed_more,
        remarks,
        remarks_more,
        commands: tables::commands(run),
        config: run.config_text.clone(),
        manifest: (!run.manifest.is_null()).then(|| serde_json::to_string_pretty(&run.manifest)).transpose()?,
        version: env!("CARGO_PKG_VERSION"),
    })
}

fn plots(run: &Run) -> Result<Vec<Plot>> {
    let caption = |stem: &str| match stem {
        "artfid" => "ArtFID of each strategy with its 95 % bootstrap interval, best first.",
        "fid_lpips" => {
            "The two parts of ArtFID against each other. Along a dashed line ArtFID is the same; a strategy below and left \
             of another is better in both."
        }
        _ => {
            "How LPIPS spreads over the pictures of each strategy: a wide shape means that some photos fare much worse."
        }
    };
    let plot = |(stem, figure): (&'static str, super::figure::Figure)| {
        Ok(Plot { svg: figure.svg(Place::Page)?, caption: caption(stem) })
    };
    plots::all(run).into_iter().map(plot).collect()
}

fn strategies(run: &Run) -> Vec<Strategy> {
    let order = run.ranking();
    let choices: Vec<_> = order.iter().map(|at| gallery::choose(run.items_of(&run.results[*at].strategy))).collect();
    let shown = choices.iter().flat_map(|choice| choice.best.iter().chain(&choice.worst));
    let files: Vec<String> =
        shown.flat_map(|item| [item.photo.clone(), item.image.clone()]).filter(|f| !f.is_empty()).collect();
    let thumbnails = thumbnails(&run.dir, &files);
    let case = |item: &&ItemRow| Case {
        id: item.id.clone(),
        photo: thumbnails.get(&item.photo).cloned(),
        picture: thumbnails.get(&item.image).cloned(),
        lpips: short(item.lpips),
        style_distance: short(item.style_distance),
        caption: item.caption.clone(),
        prompt: item.prompt.clone(),
        dropped: item.dropped.clone(),
        remark: item.remark.clone(),
        seed: item.seed,
        image: item.image.clone(),
    };
    let strategy = |(at, choice): (&usize, &gallery::Choice)| {
        let row = &run.results[*at];
        Strategy {
            name: row.strategy.clone(),
            color: tables::css_color(plots::color(*at)),
            style_text: row.style_text.clone(),
            numbers: format!(
                "ArtFID {}, FID {}, LPIPS {}, n = {}",
                short(row.artfid),
                short(row.fid),
                short(row.lpips),
                row.n
            ),
            note: match choice.rule {
                _ if choice.best.is_empty() => "No picture of this strategy was made.",
                Rule::Product => "",
                Rule::Lpips => "Ranked by LPIPS alone: not every picture has a style distance.",
                Rule::Unranked => "The pictures were not measured: the first ones are shown.",
            },
            best: choice.best.iter().map(case).collect(),
            worst: choice.worst.iter().map(case).collect(),
        }
    };
    order.iter().zip(&choices).map(strategy).collect()
}
