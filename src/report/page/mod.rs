//! `report.html`: one file that opens anywhere. Everything a run says goes through the template's
//! escaping; the page itself forbids any script but its own and any request.

pub(super) mod tables;

use std::collections::BTreeMap;
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
use super::number::{finite, short};
use super::rows::ItemRow;
use super::thumbnails::{Thumbnail, thumbnails};
use super::verdict::verdict;
use super::{Run, causes, plots, save};

const TEMPLATE: &str = include_str!("page.html");
/// Of the pages of both kinds of experiment.
const HEAD: &str = include_str!("head.html");
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
    rule: &'static str,
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
    findings: Vec<Finding>,
    successes: Vec<Case>,
    failures: Vec<Case>,
}

/// How often a possible cause holds in a strategy.
#[derive(Debug, Serialize)]
struct Finding {
    title: &'static str,
    meaning: String,
    failures: String,
    successes: String,
    pictures: String,
    /// It holds for most pictures, so it explains no failure.
    common: bool,
}

/// One picture beside its photo.
#[derive(Debug, Serialize)]
struct Case {
    id: String,
    photo: Option<Thumbnail>,
    picture: Option<Thumbnail>,
    lpips: String,
    style_distance: String,
    score: String,
    caption: String,
    prompt: Prompt,
    causes: Vec<Likely>,
    /// Of the photo.
    measures: String,
    seed: u64,
    image: String,
}

/// A prompt in its parts: what was left of the description, what was dropped, the style text.
#[derive(Debug, Serialize)]
struct Prompt {
    kept: String,
    dropped: String,
    style: String,
}

/// A likely cause of a failure.
#[derive(Debug, Serialize)]
struct Likely {
    title: &'static str,
    measure: String,
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
    environment.add_template("head", HEAD)?;
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
        rule: gallery::RULE,
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
        "frontier" => {
            "What the photo gives against what the style gives: towards the left more of the photo is kept, towards the \
             bottom the style is met better. A line towards the lower left is better at every strength."
        }
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
    let shown = choices.iter().flat_map(|choice| choice.successes.iter().chain(&choice.failures));
    let files: Vec<String> =
        shown.flat_map(|item| [item.photo.clone(), item.image.clone()]).filter(|f| !f.is_empty()).collect();
    let thumbnails = thumbnails(&run.dir, &files);
    let colors = plots::strategy_colors(run);
    let strategy = |(at, choice): (&usize, &gallery::Choice)| {
        let row = &run.results[*at];
        let counts = causes::count(run.items_of(&row.strategy), choice);
        let cases = |items: &[&ItemRow], counts: &[causes::Count]| {
            items.iter().map(|item| case(item, &row.style_text, counts, &thumbnails)).collect()
        };
        Strategy {
            name: row.strategy.clone(),
            color: tables::css_color(colors[*at]),
            style_text: row.style_text.clone(),
            numbers: format!(
                "ArtFID {}, FID {}, LPIPS {}, n = {}",
                short(row.artfid),
                short(row.fid),
                short(row.lpips),
                row.n
            ),
            note: match choice.rule {
                _ if choice.successes.is_empty() => "No picture of this strategy was made.",
                Rule::Score => "",
                Rule::Lpips => "Ranked by LPIPS alone: not every picture has a style distance.",
                Rule::Unranked => "The pictures were not measured: the first ones are shown.",
            },
            findings: counts.iter().map(|count| finding(count, choice)).collect(),
            // A cause is named where something went wrong.
            successes: cases(&choice.successes, &[]),
            failures: cases(&choice.failures, &counts),
        }
    };
    order.iter().zip(&choices).map(strategy).collect()
}

fn finding(count: &causes::Count, choice: &gallery::Choice) -> Finding {
    Finding {
        title: count.cause.title(),
        meaning: count.cause.meaning(),
        failures: format!("{} of {}", count.failures, choice.failures.len()),
        successes: format!("{} of {}", count.successes, choice.successes.len()),
        pictures: format!("{} of {}", count.pictures, count.of),
        common: count.is_common(),
    }
}

fn case(item: &ItemRow, style: &str, counts: &[causes::Count], thumbnails: &BTreeMap<String, Thumbnail>) -> Case {
    let likely = |(cause, measure): (causes::Cause, String)| Likely { title: cause.title(), measure };
    Case {
        id: item.id.clone(),
        photo: thumbnails.get(&item.photo).cloned(),
        picture: thumbnails.get(&item.image).cloned(),
        lpips: short(item.lpips),
        style_distance: short(item.style_distance),
        score: short(item.gallery_score),
        caption: item.caption.clone(),
        prompt: Prompt::of(item, style),
        causes: causes::likely(item, counts).into_iter().map(likely).collect(),
        measures: measures(item),
        seed: item.seed,
        image: item.image.clone(),
    }
}

impl Prompt {
    /// The prompt is the description, cut, and the style text; one that is made otherwise stays whole.
    fn of(item: &ItemRow, style: &str) -> Self {
        let dropped = item.dropped.clone();
        match item.prompt.strip_suffix(style.trim()) {
            Some(kept) if !style.trim().is_empty() => {
                let kept = kept.trim_end_matches([' ', ',']).to_string();
                Self { kept, dropped, style: style.trim().to_string() }
            }
            _ => Self { kept: item.prompt.clone(), dropped, style: String::new() },
        }
    }
}

/// What was measured of the photo, in one line; empty where nothing was.
fn measures(item: &ItemRow) -> String {
    let face = finite(item.face_share).map(|share| match share {
        share if share > 0.0 => format!("face {:.1} %", 100.0 * share),
        _ => "no face found".to_string(),
    });
    let parts = [
        finite(item.photo_luma).map(|value| format!("mean luma {}", short(Some(value)))),
        finite(item.photo_sharpness).map(|value| format!("sharpness {}", short(Some(value)))),
        face,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
