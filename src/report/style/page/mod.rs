//! `report.html` of a style run.

mod people;
mod tables;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use self::people::People;
use self::tables::{Remark, ResultCell, ResultColumn};
use super::gallery::{self, Rule};
use super::verdict::verdict;
use super::{StyleRun, agreement, causes, comparisons, effects, grid, plots};
use crate::metrics::{Show, find, label};
use crate::report::correlations::Correlations;
use crate::report::figure::{Figure, Place};
use crate::report::grid::Grid;
use crate::report::number::{finite, short};
use crate::report::page::{Fact, commands, css_color, fill};
use crate::report::plots::Sheet;
use crate::report::thumbnails::{ALL, GALLERY, Thumbnail, thumbnails};
use crate::run::csv::Row;
use crate::run::shown;
use crate::run::style::ItemRow;

/// A page with more would be too large to open; `view` has no limit.
const MOST_PICTURES: usize = 3000;

const TEMPLATE: &str = include_str!("page.html");

/// Everything the template shows.
#[derive(Debug, Serialize)]
struct Page {
    title: String,
    question: String,
    /// Of the effects, where the page leads with them.
    lead: Option<String>,
    sentence: String,
    warnings: Vec<String>,
    facts: Vec<Fact>,
    effects: effects::EffectTable,
    directions: String,
    columns: Vec<ResultColumn>,
    rows: Vec<Vec<ResultCell>>,
    compared: comparisons::ComparisonTable,
    plots: Vec<Plot>,
    correlations: Vec<Correlations>,
    people: Option<People>,
    /// Of the galleries.
    heading: &'static str,
    rule: &'static str,
    rated: &'static str,
    /// What holds for most pictures of every strategy.
    common: Vec<Finding>,
    strategies: Vec<Strategy>,
    grid: Grid,
    /// Whether pictures can be rated: in `view` alone.
    rates: bool,
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
    /// The same for a window that is too narrow for it.
    narrow: String,
    caption: String,
}

/// A strategy's gallery.
#[derive(Debug, Serialize)]
struct Strategy {
    name: String,
    color: String,
    style_text: String,
    numbers: String,
    note: &'static str,
    /// Whether people decided.
    rated: bool,
    /// Of its two ends.
    titles: [&'static str; 2],
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
    /// The values of metrics, by label.
    values: Vec<(&'static str, String)>,
    style_distance: String,
    score: String,
    caption: String,
    full_prompt: String,
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

/// The page as text.
pub fn html(run: &StyleRun) -> Result<String> {
    fill(TEMPLATE, "", &page(run)?)
}

fn page(run: &StyleRun) -> Result<Page> {
    let verdict = verdict(run);
    let (failed, failed_more) = tables::remarks(run.items.iter().filter(|item| item.status == "failed"), |i| &i.error);
    let (remarks, remarks_more) =
        tables::remarks(run.items.iter().filter(|item| !item.remark.is_empty()), |i| &i.remark);
    let (columns, rows) = tables::results(run);
    let (strategies, common) = strategies(run);
    let judged = strategies.iter().any(|strategy| strategy.rated);
    Ok(Page {
        title: run.folder.title().to_string(),
        question: run.folder.setting("question").to_string(),
        lead: if effects::lead(run) { effects::sentence(run) } else { None },
        sentence: verdict.sentence,
        warnings: verdict.warnings,
        facts: tables::facts(run),
        effects: effects::table(run),
        directions: tables::directions(run),
        columns,
        rows,
        compared: comparisons::table(run),
        plots: plots(run)?,
        correlations: [agreement::over_pictures(run), agreement::over_strategies(run)].into_iter().flatten().collect(),
        people: people::people(run),
        heading: if judged { "Successes and failures" } else { "Best and worst scores" },
        rule: gallery::RULE,
        rated: if judged { gallery::RATED } else { "" },
        common,
        strategies,
        grid: all_pictures(run)?,
        rates: false,
        failed,
        failed_more,
        remarks,
        remarks_more,
        commands: commands(&run.folder),
        config: run.folder.config_text.clone(),
        manifest: run.folder.manifest_text()?,
        version: env!("CARGO_PKG_VERSION"),
    })
}

fn plots(run: &StyleRun) -> Result<Vec<Plot>> {
    let caption = |stem: &str| {
        match stem {
        "frontier" if plots::lines::lines(run).is_empty() => {
            "What the photo gives against what the style gives, for every way to the style: towards the left more of the \
             photo is kept, towards the bottom the style is met better. What is not on the joined frontier has a strategy \
             that is better in both."
                .to_string()
        }
        "frontier" => "What the photo gives against what the style gives: towards the left more of the photo is kept, \
                       towards the bottom the style is met better. A line towards the lower left is better at every \
                       strength."
            .to_string(),
        "interaction" => {
            "The mean ArtFID at each value of one axis, a line for each value of another, over the strategies with \
                          both. Lines that cross or spread say that the best value of one axis depends on the other."
                .to_string()
        }
        "fid_lpips" => {
            "The two parts of ArtFID against each other. Along a dashed line ArtFID is the same; a strategy \
                        below and left of another is better in both."
                .to_string()
        }
        name if find(name).is_some_and(|metric| metric.about().item.is_none()) => {
            format!("{} of each strategy with its 95 % bootstrap interval, best first.", label(name))
        }
        name => format!(
            "How {} spreads over the pictures of each strategy: a wide shape means that some photos fare much worse.",
            label(name)
        ),
    }
    };
    let plot = |((stem, figure), (_, narrow)): ((&'static str, Figure), (&'static str, Figure))| {
        Ok(Plot { svg: figure.svg(Place::Page)?, narrow: narrow.svg(Place::Page)?, caption: caption(stem) })
    };
    plots::all(run, Sheet::Wide).into_iter().zip(plots::all(run, Sheet::Narrow)).map(plot).collect()
}

/// The grid with its pictures inside the page.
fn all_pictures(run: &StyleRun) -> Result<Grid> {
    let photos = MOST_PICTURES / (run.results.len() + 1);
    let shown: BTreeMap<&str, &str> = grid::photos(run).into_iter().take(photos).collect();
    let drawn = run.items.iter().filter(|item| shown.contains_key(item.id.as_str()) && item.status != "failed");
    let files = shown.values().map(|file| file.to_string()).chain(drawn.map(|item| item.image.clone()));
    let files: Vec<String> = files.filter(|file| !file.is_empty()).collect();
    let thumbnails = thumbnails(&run.folder.dir, &files, &ALL);
    grid::grid(run, photos, |file| thumbnails.get(file).map(|thumbnail| thumbnail.uri.clone()))
}

/// The galleries, and what holds for most pictures of every strategy.
fn strategies(run: &StyleRun) -> (Vec<Strategy>, Vec<Finding>) {
    let order = run.ranking();
    let choices: Vec<_> = order.iter().map(|at| run.choice(&run.results[*at].strategy)).collect();
    let chosen = choices.iter().flat_map(|choice| choice.successes.iter().chain(&choice.failures));
    let files: Vec<String> =
        chosen.flat_map(|item| [item.photo.clone(), item.image.clone()]).filter(|f| !f.is_empty()).collect();
    let thumbnails = thumbnails(&run.folder.dir, &files, &GALLERY);
    let colors = plots::strategy_colors(run);
    let counted =
        |(at, choice): (&usize, &gallery::Choice)| causes::count(run.items_of(&run.results[*at].strategy), choice);
    let counts: Vec<Vec<causes::Count>> = order.iter().zip(&choices).map(counted).collect();
    let everywhere = causes::common(&counts);
    let common = counts.iter().flatten().filter(|count| everywhere.contains(&count.cause)).fold(
        BTreeMap::<&str, Finding>::new(),
        |mut all, count| {
            all.entry(count.cause.title()).or_insert_with(|| finding(count, &choices[0]));
            all
        },
    );
    let strategy = |(at, choice): (&usize, &gallery::Choice)| {
        let row = &run.results[*at];
        let counts = causes::count(run.items_of(&row.strategy), choice);
        let own = counts.iter().filter(|count| !everywhere.contains(&count.cause));
        let cases = |items: &[&ItemRow], counts: &[causes::Count]| {
            items.iter().map(|item| case(item, row.style_text(), counts, &thumbnails)).collect()
        };
        Strategy {
            name: row.strategy.clone(),
            color: css_color(colors[*at]),
            style_text: row.style_text().to_string(),
            numbers: shown(&run.results, Show::Table)
                .iter()
                .map(|about| format!("{} {}, ", about.label, short(row.values.value(about.name))))
                .chain([format!("n = {}", row.n)])
                .collect(),
            note: match choice.rule {
                Rule::People | Rule::Score if !choice.successes.is_empty() => "",
                Rule::People if choice.failures.is_empty() => {
                    "As many raters call each picture a success as a failure."
                }
                Rule::People => "No picture of this strategy is a success to most of its raters.",
                _ if choice.successes.is_empty() => "No picture of this strategy was made.",
                Rule::Score => "",
                Rule::Lpips => "Ranked by LPIPS alone: not every picture has a style distance.",
                Rule::Unranked => "The pictures were not measured: the first ones are shown.",
            },
            rated: choice.rule == Rule::People,
            titles: choice.titles(),
            findings: own.map(|count| finding(count, choice)).collect(),
            // A cause is named where something went wrong.
            successes: cases(&choice.successes, &[]),
            failures: cases(&choice.failures, &counts),
        }
    };
    (order.iter().zip(&choices).map(strategy).collect(), common.into_values().collect())
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
    let metrics = ItemRow::metrics().into_iter().map(|metric| metric.about());
    let of_items = metrics.filter(|about| about.item.is_some() && (about.by_default || item.values.has(about.name)));
    let likely = |(cause, measure): (causes::Cause, String)| Likely { title: cause.title(), measure };
    Case {
        id: item.id.clone(),
        photo: thumbnails.get(&item.photo).cloned(),
        picture: thumbnails.get(&item.image).cloned(),
        values: of_items.map(|about| (about.label, short(item.values.value(about.name)))).collect(),
        style_distance: short(item.style_distance),
        score: short(item.gallery_score),
        caption: item.caption.clone(),
        full_prompt: item.prompt.clone(),
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
