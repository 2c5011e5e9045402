//! The galleries as pictures for papers, each photo above its picture: `gallery/STRATEGY-successes.png` and
//! `-failures.png` where people judged, `-best.png` and `-worst.png` where scores chose.

use std::path::PathBuf;

use anyhow::{Context, Result};
use image::RgbImage;
use rayon::prelude::*;

use super::causes::{self, Count};
use super::gallery::Rule;
use super::{PHOTO, StyleRun};
use crate::report::contact_sheet::{SheetCell, SheetRow, contact_sheet};
use crate::report::figure::png_bytes;
use crate::report::number::short;
use crate::report::save;
use crate::report::thumbnails::open;
use crate::run::guard;
use crate::run::style::{ItemRow, ResultRow};

/// How files end where people judged: only they make a success or a failure.
const JUDGED: [&str; 2] = ["successes", "failures"];

/// How files end where scores chose.
const SCORED: [&str; 2] = ["best", "worst"];

/// Writes the sheets of every strategy of which some picture is there. Returns the files.
pub fn write(run: &StyleRun) -> Result<Vec<PathBuf>> {
    let written: Result<Vec<Vec<PathBuf>>> =
        run.ranking().into_par_iter().map(|at| of_strategy(run, &run.results[at])).collect();
    Ok(written?.into_iter().flatten().collect())
}

fn of_strategy(run: &StyleRun, row: &ResultRow) -> Result<Vec<PathBuf>> {
    let choice = run.choice(&row.strategy);
    let counts = causes::count(run.items_of(&row.strategy), &choice);
    // A cause is named where something went wrong.
    let [best, worst] = if choice.rule == Rule::People { JUDGED } else { SCORED };
    let ends: [(&str, &Vec<&ItemRow>, &[Count]); 2] =
        [(best, &choice.successes, &[]), (worst, &choice.failures, &counts)];
    let mut files = Vec::new();
    for ((name, items, counts), title) in ends.into_iter().zip(choice.titles()) {
        let is_there = |item: &&ItemRow| guard::inside(&run.folder.dir, &item.image).is_ok_and(|file| file.is_file());
        let known = items.iter().any(is_there);
        if known && choice.rule != Rule::Unranked {
            let file = run.folder.dir.join("gallery").join(sheet_name(&row.strategy, name));
            save(&file, &png_bytes(&sheet(run, row, title, items, counts)?)?)?;
            files.push(file);
        }
    }
    if !files.is_empty() {
        remove_others(run, &row.strategy, &files)?;
    }
    Ok(files)
}

/// Removes the sheets of a strategy that an earlier choice left and that would contradict those of `kept`.
fn remove_others(run: &StyleRun, strategy: &str, kept: &[PathBuf]) -> Result<()> {
    for end in JUDGED.into_iter().chain(SCORED) {
        let name = sheet_name(strategy, end);
        // Nothing is removed through a link.
        let Ok(file) = guard::inside(&run.folder.dir, &format!("gallery/{name}")) else { continue };
        if !kept.contains(&file) && file.is_file() {
            std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
    }
    Ok(())
}

fn sheet_name(strategy: &str, end: &str) -> String {
    format!("{}-{end}.png", file_name(strategy))
}

/// Names of strategies are safe in paths when this program wrote them; a table may be edited.
fn file_name(strategy: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    strategy.chars().map(safe).collect()
}

fn sheet(run: &StyleRun, row: &ResultRow, title: &str, items: &[&ItemRow], counts: &[Count]) -> Result<RgbImage> {
    let picture = |file: &str| (!file.is_empty()).then(|| open(&run.folder.dir, file).ok()).flatten();
    let photo = |item: &&ItemRow| SheetCell { picture: picture(&item.photo), caption: item.id.clone() };
    let drawn = |item: &&ItemRow| SheetCell { picture: picture(&item.image), caption: caption(item, counts) };
    let photos = SheetRow { label: "photo".to_string(), cells: items.iter().map(photo).collect() };
    // Lines break at blanks only.
    let label = format!("{}: {title}", row.strategy.replace("__", " / "), title = title.to_lowercase());
    contact_sheet(&[photos, SheetRow { label, cells: items.iter().map(drawn).collect() }])
}

/// The likely causes, which stand out, the measures, the prompt, what was dropped of it.
fn caption(item: &ItemRow, counts: &[Count]) -> String {
    let [score, style] = [item.gallery_score, item.style_distance].map(short);
    let photo = format!("{} {}", PHOTO.label, short(item.values.value(PHOTO.name)));
    let likely = causes::likely(item, counts).into_iter().map(|(cause, said)| format!("{}: {said}", cause.title()));
    let mut lines = Vec::from_iter(Some(likely.collect::<Vec<_>>().join("; ")).filter(|causes| !causes.is_empty()));
    lines.push(format!("score {score}, {photo}, style distance {style}"));
    lines.push(item.prompt.replace('\n', " "));
    if !item.dropped.is_empty() {
        lines.push(format!("Dropped: {}", item.dropped.replace('\n', " ")));
    }
    lines.join("\n")
}
