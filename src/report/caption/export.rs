//! The results of a caption run as a table for papers, with what was published beside what was measured.

use super::{CaptionRun, tables};
use crate::metrics::{About, Show};
use crate::report::TrackedEntry;
use crate::report::number::short;
use crate::report::table::{Cell, Column, Results, Row};
use crate::run::caption::CaptionResult;
use crate::run::shown;

/// Data sets, and in each the models in the order of results.csv.
pub fn results(run: &CaptionRun) -> Results {
    let metrics = shown(&run.results, Show::Compared);
    let of_published: Vec<&str> = tables::published_metrics(run).iter().map(|about| about.name).collect();
    let is_published = |about: &About| {
        of_published.contains(&about.name)
            && run.results.iter().any(|row| run.published_of(row).is_some_and(|line| line.value(about.name).is_some()))
    };
    let mut columns = vec![Column::text("Data set"), Column::text("Model"), Column::number("n", None)];
    for about in &metrics {
        columns.push(Column::number(about.label, Some(about.higher_is_better)));
        columns.extend(is_published(about).then(|| Column::number("published", None)));
    }
    let best = |about: &About, dataset: &str| {
        let own = run.results.iter().filter(|row| row.dataset == dataset);
        let values: Vec<f64> = own.filter_map(|row| row.values.value(about.name)).collect();
        let best = values.iter().copied().reduce(|a, b| about.better(a, b))?;
        // Where all are equal none is the best.
        values.iter().any(|value| *value != best).then_some(best)
    };
    let row = |row: &CaptionResult| {
        let names = [row.dataset.clone(), row.model.clone(), row.n.to_string()];
        let mut cells: Vec<Cell> = names.into_iter().map(Cell::plain).collect();
        for about in &metrics {
            let value = row.values.value(about.name);
            let interval = row.values.interval(about.name);
            cells.push(Cell {
                text: short(value),
                interval: interval.map(|interval| (short(Some(interval.low)), short(Some(interval.high)))),
                is_best: value.is_some() && value == best(about, &row.dataset),
            });
            let published = run.published_of(row).and_then(|line| line.value(about.name));
            cells.extend(is_published(about).then(|| Cell::plain(short(published))));
        }
        Row { group: row.dataset.clone(), cells }
    };
    let datasets = run.datasets();
    let of_set = |set: &String| run.results.iter().filter(|row| row.dataset == *set).map(row).collect::<Vec<Row>>();
    let rows: Vec<Row> = datasets.iter().flat_map(of_set).collect();
    let question = run.folder.setting("question");
    let caption = format!("{question} In brackets 95 % bootstrap intervals over the pictures.");
    Results { name: run.folder.title().to_string(), caption: caption.trim().to_string(), columns, rows }
}

/// An entry a model and data set, in the order of results.csv.
pub fn tracked(run: &CaptionRun) -> Vec<TrackedEntry> {
    let entry = |row: &CaptionResult| {
        let mut entry = TrackedEntry { name: format!("{} on {}", row.model, row.dataset), ..TrackedEntry::default() };
        entry.measured(&row.values);
        entry.number("n", Some(row.n as f64));
        entry.number("failed", Some(row.failed as f64));
        entry.number("images_per_second", row.images_per_second);
        entry.number("words", row.words);
        entry.number("reference_words", row.reference_words);
        let settings = [
            ("model", &row.model),
            ("dataset", &row.dataset),
            ("captioner", &row.captioner),
            ("strategy", &row.strategy),
            ("prompt", &row.prompt),
        ];
        settings.into_iter().for_each(|(name, text)| entry.setting(name, text));
        entry
    };
    run.results.iter().map(entry).collect()
}
