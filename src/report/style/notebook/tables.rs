//! The tables of the notebook.

use crate::report::notebook::tables::{Table, number};
use crate::report::style::StyleRun;
use crate::report::style::gallery::Choice;
use crate::run::style::ItemRow;

/// The rows of results.csv, best ArtFID first.
pub fn results(run: &StyleRun) -> Table {
    let listed = run.ranking().into_iter().filter(|at| *at < run.listed).map(|at| &run.results[at]);
    let rows = listed.map(|row| {
        let numbers = [row.artfid, row.artfid_low, row.artfid_high, row.fid, row.lpips, row.seconds_per_image];
        let names = [row.strategy.clone(), row.style_text.clone(), row.n.to_string()];
        names.into_iter().chain(numbers.map(number)).collect()
    });
    let columns =
        vec!["strategy", "style_text", "n", "artfid", "artfid_low", "artfid_high", "fid", "lpips", "seconds_per_image"];
    Table { columns, rows: rows.collect() }
}

/// The chosen pictures of a strategy.
pub fn cases(choice: &Choice) -> Table {
    let row = |case: &str, item: &ItemRow| {
        let measures = [item.lpips, item.style_distance, item.gallery_score].map(number);
        let photo = [item.photo_luma, item.photo_sharpness, item.face_share].map(number);
        let text = [&item.caption, &item.prompt, &item.dropped].map(String::clone);
        let names = [case.to_string(), item.id.clone()];
        names.into_iter().chain(measures).chain(photo).chain(text).collect()
    };
    let successes = choice.successes.iter().map(|item| row("success", item));
    let rows = successes.chain(choice.failures.iter().map(|item| row("failure", item))).collect();
    let columns = vec![
        "case",
        "id",
        "lpips",
        "style_distance",
        "gallery_score",
        "photo_luma",
        "photo_sharpness",
        "face_share",
        "caption",
        "prompt",
        "dropped",
    ];
    Table { columns, rows }
}

/// The pictures that failed.
pub fn failed(run: &StyleRun) -> Table {
    let failed = run.items.iter().filter(|item| item.status == "failed");
    let rows = failed.map(|item| vec![item.id.clone(), item.strategy.clone(), item.error.clone()]).collect();
    Table { columns: vec!["id", "strategy", "error"], rows }
}
