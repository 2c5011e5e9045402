//! The grid of a style run.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{StyleRun, plots};
use crate::metrics::About;
use crate::report::grid::{Data, Facts, Grid, Line, Measure, Photo, Place, Strategy, link};
use crate::report::number::{finite, short};
use crate::report::page::css_color;
use crate::run::csv::Row;
use crate::run::style::ItemRow;

/// A number of an item that is no metric of its own.
type Extra = (&'static str, fn(&ItemRow) -> Option<f64>);

/// What is a time, and no quality.
pub const SECONDS: &str = "Seconds";

const EXTRAS: [Extra; 3] = [
    ("Style distance", |item| item.style_distance),
    ("Gallery score", |item| item.gallery_score),
    (SECONDS, |item| item.seconds),
];

/// The numbers of items, of those that some item has.
pub struct Numbers {
    metrics: Vec<&'static About>,
    extras: Vec<Extra>,
}

impl Numbers {
    pub fn of(run: &StyleRun) -> Self {
        let abouts = ItemRow::metrics().into_iter().map(|metric| metric.about());
        let has = |about: &&About| run.items.iter().any(|item| item.values.value(about.name).is_some());
        let known = |extra: &Extra| run.items.iter().any(|item| finite(extra.1(item)).is_some());
        Self { metrics: abouts.filter(has).collect(), extras: EXTRAS.into_iter().filter(known).collect() }
    }

    /// In the order of the values.
    pub fn measures(&self) -> Vec<Measure> {
        let metrics =
            self.metrics.iter().map(|about| Measure { label: about.label.into(), higher: about.higher_is_better });
        metrics.chain(self.extras.iter().map(|(label, _)| Measure { label: (*label).into(), higher: false })).collect()
    }

    pub fn values(&self, item: &ItemRow) -> Vec<Option<f64>> {
        let metrics = self.metrics.iter().map(|about| item.values.value(about.name));
        metrics.chain(self.extras.iter().map(|extra| finite(extra.1(item)))).collect()
    }

    fn line(&self, item: &ItemRow) -> String {
        let one = |about: &&About| Some(format!("{} {}", about.label, short(Some(item.values.value(about.name)?))));
        self.metrics.iter().take(2).filter_map(one).collect::<Vec<_>>().join(", ")
    }
}

/// The photos of a run in the order of its items, each with its picture's file.
pub fn photos(run: &StyleRun) -> Vec<(&str, &str)> {
    let mut files: BTreeMap<&str, &str> = BTreeMap::new();
    let mut order = Vec::new();
    for item in &run.items {
        let file = files.entry(&item.id).or_insert_with(|| {
            order.push(item.id.as_str());
            ""
        });
        if file.is_empty() {
            *file = &item.photo;
        }
    }
    order.into_iter().map(|id| (id, files[id])).collect()
}

/// The first `most` photos under all strategies. `source` gives what an image element shows for a file of the run
/// folder; None where there is nothing to show.
pub fn grid(run: &StyleRun, most: usize, source: impl Fn(&str) -> Option<String>) -> Result<Grid> {
    let numbers = Numbers::of(run);
    let colors = plots::strategy_colors(run);
    let measures = numbers.measures();
    let all = photos(run);
    let shown = &all[..all.len().min(most)];
    let mut items: BTreeMap<(&str, &str), &ItemRow> = BTreeMap::new();
    for item in &run.items {
        items.entry((&item.id, &item.strategy)).or_insert(item);
    }
    let dir = &run.folder.dir;
    let names: Vec<&str> = run.results.iter().map(|row| row.strategy.as_str()).collect();
    let data = Data {
        strategies: names.clone(),
        metrics: &measures,
        photos: shown.iter().map(|(id, file)| Photo { id, href: link(dir, file) }).collect(),
        items: shown
            .iter()
            .map(|(id, _)| {
                let of =
                    |name: &&str| items.get(&(*id, *name)).map(|item| facts_of(&numbers, item, link(dir, &item.image)));
                names.iter().map(of).collect()
            })
            .collect(),
    };
    let line = |(at, (id, file)): (usize, &(&str, &str))| Line {
        id: id.to_string(),
        photo: source(file),
        first: at == 0,
        cells: names.iter().map(|name| place(name, items.get(&(*id, *name)).copied(), &numbers, &source)).collect(),
    };
    let strategy = |(row, color): (&crate::run::style::ResultRow, _)| Strategy {
        name: row.strategy.clone(),
        color: css_color(color),
        style_text: row.style_text().to_string(),
    };
    Ok(Grid {
        data: data.json()?,
        strategies: run.results.iter().zip(colors).map(strategy).collect(),
        rows: shown.iter().enumerate().map(line).collect(),
        left_out: all.len() - shown.len(),
        dense: false,
        metrics: measures,
    })
}

fn facts_of<'a>(numbers: &Numbers, item: &'a ItemRow, href: Option<String>) -> Facts<'a> {
    Facts {
        href,
        status: &item.status,
        caption: &item.caption,
        prompt: &item.prompt,
        dropped: &item.dropped,
        seed: item.seed.to_string(),
        error: &item.error,
        remark: &item.remark,
        values: numbers.values(item),
    }
}

fn place(strategy: &str, item: Option<&ItemRow>, numbers: &Numbers, source: &impl Fn(&str) -> Option<String>) -> Place {
    let Some(item) = item else {
        let missing = "not made".to_string();
        let status = "missing".to_string();
        let (alt, numbers) = (String::new(), String::new());
        return Place { strategy: strategy.to_string(), status, picture: None, alt, missing, numbers };
    };
    let failed = item.status == "failed";
    Place {
        strategy: strategy.to_string(),
        status: item.status.clone(),
        picture: source(&item.image).filter(|_| !failed),
        alt: format!("{} as {strategy}: {}", item.id, item.prompt),
        missing: if failed { format!("failed: {}", item.error) } else { "picture not found".to_string() },
        numbers: numbers.line(item),
    }
}
