//! Whether the metrics of a style run put pictures, and strategies, in the same order.

use super::StyleRun;
use crate::metrics::{About, Show};
use crate::report::correlations::{Correlations, Measure, correlations};
use crate::run::finite;
use crate::run::shown;
use crate::run::style::ItemRow;

/// Over all pictures of all strategies.
pub fn over_pictures(run: &StyleRun) -> Option<Correlations> {
    let done: Vec<&ItemRow> = run.items.iter().filter(|item| item.status != "failed").collect();
    let mut measures: Vec<Measure> = shown(&run.results, Show::Table)
        .into_iter()
        .filter(|about| about.item.is_some())
        .map(|about| of_metric(about, done.iter().map(|item| item.values.value(about.name)).collect()))
        .collect();
    measures.push(Measure {
        name: "style_distance".to_string(),
        label: "style distance".to_string(),
        values: done.iter().map(|item| finite(item.style_distance)).collect(),
    });
    correlations("pictures", &measures)
}

/// Over the strategies of results.csv.
pub fn over_strategies(run: &StyleRun) -> Option<Correlations> {
    let measures: Vec<Measure> = shown(&run.results, Show::Table)
        .into_iter()
        .map(|about| {
            of_metric(about, run.results[..run.listed].iter().map(|row| row.values.value(about.name)).collect())
        })
        .collect();
    correlations("strategies", &measures)
}

fn of_metric(about: &About, values: Vec<Option<f64>>) -> Measure {
    Measure { name: about.name.to_string(), label: about.label.to_string(), values }
}
