//! The tables of the notebook.

use crate::metrics::Show;
use crate::report::notebook::tables::{NotebookTable, number};
use crate::report::style::effects::corrected;
use crate::report::style::gallery::Choice;
use crate::report::style::{DECIDING, PHOTO, StyleRun};
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
pub fn results(run: &StyleRun) -> NotebookTable {
    let numbers = numbers(run);
    let listed = run.ranking().into_iter().filter(|at| *at < run.listed).map(|at| &run.results[at]);
    let rows = listed.map(|row| {
        let names = [row.strategy.clone(), row.style_text().to_string()];
        names.into_iter().chain(numbers.iter().map(|(_, value)| value(row))).collect()
    });
    let rows = rows.collect();
    let names = numbers.iter().map(|(name, _)| name.clone());
    NotebookTable { columns: ["strategy", "style_text"].map(String::from).into_iter().chain(names).collect(), rows }
}

/// The rows of effects.csv of the deciding metric.
pub fn effects(run: &StyleRun) -> NotebookTable {
    let rows = run.effects.iter().filter(|row| row.metric == DECIDING.name).map(|row| {
        let values = [row.mean, row.low, row.high, row.p_value, corrected(run, row)].map(|value| number(Some(value)));
        [row.axis.clone(), row.value.clone(), row.n.to_string()].into_iter().chain(values).collect()
    });
    let columns = ["axis", "value", "n", "mean", "low", "high", "p_value", "p_holm"];
    NotebookTable { columns: columns.map(String::from).into(), rows: rows.collect() }
}

/// The rows of comparisons.csv that the best strategy is in.
pub fn comparisons(run: &StyleRun) -> NotebookTable {
    let listed = run.ranking().into_iter().find(|at| *at < run.listed);
    let best = listed.map_or("", |at| run.results[at].strategy.as_str());
    let rows = run.comparisons.iter().filter(|row| row.first == best || row.second == best);
    let rows = rows.map(|row| {
        let names = [&row.metric, &row.first, &row.second].map(String::clone);
        let values = [row.difference, row.low, row.high, row.p_value, row.corrected()].map(|value| number(Some(value)));
        names.into_iter().chain([row.n.to_string()]).chain(values).collect()
    });
    let columns = ["metric", "first", "second", "n", "difference", "low", "high", "p_value", "p_holm"];
    NotebookTable { columns: columns.map(String::from).into(), rows: rows.collect() }
}

/// The chosen pictures of a strategy.
pub fn cases(choice: &Choice) -> NotebookTable {
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
    NotebookTable { columns: columns.map(String::from).into(), rows }
}

/// The pictures that failed.
pub fn failed(run: &StyleRun) -> NotebookTable {
    let failed = run.items.iter().filter(|item| item.status == "failed");
    let rows = failed.map(|item| vec![item.id.clone(), item.strategy.clone(), item.error.clone()]).collect();
    NotebookTable { columns: ["id", "strategy", "error"].map(String::from).into(), rows }
}
