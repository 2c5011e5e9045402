//! A style run as tables for papers: its results, and what people said.

mod people;

use super::StyleRun;
use super::people::said;
use crate::axes::AXES;
use crate::metrics::{About, Show};
use crate::report::TrackedEntry;
use crate::report::number::short;
use crate::report::table::{Cell, Column, Results, Row};
use crate::run::shown;
use crate::run::style::ResultRow;

/// What people said; nothing where no one said anything.
pub use people::tables as of_people;

/// Strategies, best ArtFID first; below them what people said.
pub fn tables(run: &StyleRun) -> Vec<Results> {
    [vec![results(run)], of_people(run)].concat()
}

/// An entry a strategy, in the order of results.csv; with what people said, where they said anything.
pub fn tracked(run: &StyleRun) -> Vec<TrackedEntry> {
    let said = said(run);
    let entry = |(at, row): (usize, &ResultRow)| {
        let mut entry = TrackedEntry { name: row.strategy.clone(), ..TrackedEntry::default() };
        entry.measured(&row.values);
        entry.number("n", Some(row.n as f64));
        entry.number("failed", Some(row.failed as f64));
        entry.number("seconds_per_image", row.seconds_per_image);
        if let Some(of) = said.as_ref().and_then(|said| said.strategies.get(at)) {
            for (name, known) in [("success_rate", of.success), ("strength", of.strength)] {
                entry.number(name, known.map(|(value, _)| value));
                entry.number(&format!("{name}_low"), known.map(|(_, interval)| interval.low));
                entry.number(&format!("{name}_high"), known.map(|(_, interval)| interval.high));
            }
        }
        entry.setting("strategy", &row.strategy);
        AXES.iter().for_each(|axis| entry.setting(axis.key, row.axes.get(axis).to_string()));
        entry
    };
    run.results[..run.listed].iter().enumerate().map(entry).collect()
}

fn results(run: &StyleRun) -> Results {
    let metrics = shown(&run.results, Show::Table);
    let published = |row: &ResultRow, about: &About| run.published_of(row).and_then(|line| line.value(about.name));
    let is_published = |about: &About| run.results.iter().any(|row| published(row, about).is_some());
    let mut columns = vec![Column::text("Strategy"), Column::number("n", None)];
    for about in &metrics {
        columns.push(Column::number(about.label, Some(about.higher_is_better)));
        columns.extend(is_published(about).then(|| Column::number("published", None)));
    }
    let best = |about: &About| {
        let values = run.results.iter().filter_map(|row| row.values.value(about.name));
        values.reduce(|a, b| about.better(a, b)).filter(|_| run.results.len() > 1)
    };
    let row = |row: &ResultRow| {
        let value = |about: &&'static About| {
            let value = row.values.value(about.name);
            let interval = row.values.interval(about.name);
            Cell {
                text: short(value),
                interval: interval.map(|interval| (short(Some(interval.low)), short(Some(interval.high)))),
                is_best: value.is_some() && value == best(about),
            }
        };
        let mut cells = vec![Cell::plain(&row.strategy), Cell::plain(row.n.to_string())];
        for about in &metrics {
            cells.push(value(about));
            cells.extend(is_published(about).then(|| Cell::plain(short(published(row, about)))));
        }
        Row { group: String::new(), cells }
    };
    let rows = run.ranking().into_iter().map(|at| row(&run.results[at])).collect();
    let question = run.folder.setting("question");
    let caption = format!("{question} In brackets 95 % bootstrap intervals over the photos.");
    Results { name: run.folder.title().to_string(), caption: caption.trim().to_string(), columns, rows }
}
