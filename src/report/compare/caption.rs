//! Two caption runs.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Found, Line, correct};
use crate::metrics::of_captions;
use crate::metrics::stats::Estimate;
use crate::metrics::text::CaptionMetric;
use crate::metrics::text::captions::{Caption, paired_bootstrap, score_by};
use crate::report::caption::CaptionRun;
use crate::run::caption::CaptionResult;
use crate::run::guard;

/// Of the resamples.
const SEED: u64 = 0;

/// Each model on each data set that both runs have.
pub fn compare(first: &CaptionRun, second: &CaptionRun) -> Result<Found> {
    let mut found = Found::default();
    let mut shared = 0;
    for row in &first.results {
        let Some(other) = second.result(&row.dataset, &row.model) else { continue };
        shared += 1;
        let of_row = found.lines.len();
        found.lines.extend(lines(row, other));
        let (a, b) = captions(first, second, row);
        if a.is_empty() {
            found.remarks.push(format!("{} on {}: no picture is the same in both.", row.model, row.dataset));
            continue;
        }
        let metrics = || known(row, other).into_iter();
        let (a, b) = (score_by(&a, metrics())?, score_by(&b, metrics())?);
        for difference in paired_bootstrap(&a, &b, SEED)? {
            let (value, interval, p_value) = (difference.difference, difference.interval, difference.p_value);
            if let Some(line) = found.lines[of_row..].iter_mut().find(|line| line.metric == difference.name) {
                line.put(a.ids.len(), Estimate { value, interval, p_value });
            }
        }
    }
    if shared == 0 {
        found.remarks.push("no model is in both on the same data set.".to_string());
    }
    correct(&mut found.lines);
    Ok(found)
}

/// The metrics that both runs have of a model.
fn known(first: &CaptionResult, second: &CaptionResult) -> Vec<&'static dyn CaptionMetric> {
    let both = |name: &str| first.values.value(name).and(second.values.value(name)).is_some();
    of_captions().filter(|metric| both(metric.about().name)).collect()
}

fn lines(first: &CaptionResult, second: &CaptionResult) -> Vec<Line> {
    let name = format!("{} on {}", first.model, first.dataset);
    of_captions()
        .map(|metric| metric.about().name)
        .filter(|metric| first.values.has(metric) || second.values.has(metric))
        .map(|metric| Line::of_metric(&name, metric, [first.values.value(metric), second.values.value(metric)]))
        .collect()
}

/// What the model of a row said of the pictures that are the same in both runs: their thumbnails and references are.
fn captions(first: &CaptionRun, second: &CaptionRun, row: &CaptionResult) -> (Vec<Caption>, Vec<Caption>) {
    let of = |run: &CaptionRun| -> BTreeMap<String, (String, String)> {
        let own = run
            .items
            .iter()
            .filter(|item| item.is_done() && (&item.model, &item.dataset) == (&row.model, &row.dataset));
        own.map(|item| (item.id.clone(), (item.caption.clone(), item.image.clone()))).collect()
    };
    let references = |run: &CaptionRun, id: &str| run.references.get(&row.dataset).and_then(|of| of.get(id)).cloned();
    let picture = |run: &CaptionRun, image: &str| {
        guard::inside(&run.folder.dir, image).ok().and_then(|path| std::fs::read(path).ok())
    };
    let of_second = of(second);
    let both = of(first).into_iter().filter_map(|(id, (caption, image))| {
        let (other, other_image) = of_second.get(&id)?;
        let of_both =
            references(first, &id).filter(|own| !own.is_empty() && Some(own) == references(second, &id).as_ref())?;
        if picture(first, &image) != picture(second, other_image) {
            return None;
        }
        let one = |prediction: String| Caption { id: id.clone(), prediction, references: of_both.clone() };
        Some((one(caption), one(other.clone())))
    });
    both.unzip()
}
