//! Whether the metrics of a caption run put captions, and models, in the same order.

use super::CaptionRun;
use crate::metrics::Show;
use crate::report::correlations::{Correlations, Measure, correlations};
use crate::run::caption::CaptionItem;
use crate::run::shown;

/// Over all captions of all models.
pub fn over_captions(run: &CaptionRun) -> Option<Correlations> {
    let done: Vec<&CaptionItem> = run.items.iter().filter(|item| item.is_done()).collect();
    let measures: Vec<Measure> = shown(&run.results, Show::Table)
        .into_iter()
        .filter(|about| about.item.is_some())
        .map(|about| Measure {
            name: about.name.to_string(),
            label: about.label.to_string(),
            values: done.iter().map(|item| item.values.value(about.name)).collect(),
        })
        .collect();
    correlations("captions", &measures)
}

/// Over the rows of results.csv: each model on each data set.
pub fn over_models(run: &CaptionRun) -> Option<Correlations> {
    let measures: Vec<Measure> = shown(&run.results, Show::Table)
        .into_iter()
        .map(|about| Measure {
            name: about.name.to_string(),
            label: about.label.to_string(),
            values: run.results.iter().map(|row| row.values.value(about.name)).collect(),
        })
        .collect();
    correlations("models and data sets", &measures)
}
