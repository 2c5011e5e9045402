//! The tables of the notebook.

use crate::metrics::Show;
use crate::report::notebook::tables::{Table, number};
use crate::report::style::gallery::Choice;
use crate::report::style::{PHOTO, StyleRun};
use crate::run::shown;
use crate::run::style::{ItemRow, ResultRow};

/// A number of a row, as text.
type Number = Box<dyn Fn(&ResultRow) -> String>;

/// The columns of numbers: name and value.
pub fn numbers(run: &StyleRun) -> Vec<(String, Number)> {
    let mut columns: Vec<(String, Number)> = vec![("n".to_string(), Box::new(|row| row.n.to_string()))];
    for about in shown(&run.results, Show::Table) {
        columns.push((about.name.to_string(), Box::new(|row| number(row.values.value(about.name)))));
        if about.show >= Show::Compared {
            columns.push((about.low(), Box::new(|row| number(row.values.get(about.name).low))));
            columns.push((about.high(), Box::new(|row| number(row.values.get(about.name).high))));
        }
    }
    columns.push(("seconds_per_image".to_string(), Box::new(|row| number(row.seconds_per_image))));
    columns
}

/// The rows of results.csv, best ArtFID first.
pub fn results(run: &StyleRun) -> Table {
    let numbers = numbers(run);
    let listed = run.ranking().into_iter().filter(|at| *at < run.listed).map(|at| &run.results[at]);
    let rows = listed.map(|row| {
        let names = [row.strategy.clone(), row.style_text().to_string()];
        names.into_iter().chain(numbers.iter().map(|(_, value)| value(row))).collect()
    });
    let rows = rows.collect();
    let names = numbers.iter().map(|(name, _)| name.clone());
    Table { columns: ["strategy", "style_text"].map(String::from).into_iter().chain(names).collect(), rows }
}

/// The chosen pictures of a strategy.
pub fn cases(choice: &Choice) -> Table {
    let row = |case: &str, item: &ItemRow| {
        let measures = [item.values.value(PHOTO.name), item.style_distance, item.gallery_score].map(number);
        let photo = [item.photo_luma, item.photo_sharpness, item.face_share].map(number);
        let text = [&item.caption, &item.prompt, &item.dropped].map(String::clone);
        let names = [case.to_string(), item.id.clone()];
        names.into_iter().chain(measures).chain(photo).chain(text).collect()
    };
    let [best, worst] = choice.cases();
    let successes = choice.successes.iter().map(|item| row(best, item));
    let rows = successes.chain(choice.failures.iter().map(|item| row(worst, item))).collect();
    let columns = [
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
    Table { columns: columns.map(String::from).into(), rows }
}

/// The pictures that failed.
pub fn failed(run: &StyleRun) -> Table {
    let failed = run.items.iter().filter(|item| item.status == "failed");
    let rows = failed.map(|item| vec![item.id.clone(), item.strategy.clone(), item.error.clone()]).collect();
    Table { columns: ["id", "strategy", "error"].map(String::from).into(), rows }
}
