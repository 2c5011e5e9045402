//! Two caption runs.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Found, Line, correct};
use crate::metrics::of_captions;
use crate::metrics::stats::Estimate;
use crate::metrics::text::CaptionMetric;
use crate::metrics::text::captions::{Caption, paired_bootstrap, score_by};
use crate::metrics::text::clip_score::ClipScores;
use crate::report::caption::CaptionRun;
use crate::run::caption::{CaptionItem, CaptionResult};
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
        // A score of CLIP that some row lacks is none of all.
        let has_clip = a.iter().chain(&b).all(|caption| caption.clip.is_some_and(|clip| clip.ref_clip_score.is_some()));
        let metrics =
            || known(row, other).into_iter().filter(|metric| has_clip || !metric.about().name.contains("clip"));
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
fn captions<'a>(first: &'a CaptionRun, second: &'a CaptionRun, row: &CaptionResult) -> (Vec<Caption>, Vec<Caption>) {
    let of = |run: &'a CaptionRun| -> BTreeMap<&'a str, &'a CaptionItem> {
        let is_own = |item: &&CaptionItem| (&item.model, &item.dataset) == (&row.model, &row.dataset);
        let done = run.items.iter().filter(|item| item.is_done());
        done.filter(is_own).map(|item| (item.id.as_str(), item)).collect()
    };
    let references = |run: &CaptionRun, id: &str| run.references.get(&row.dataset).and_then(|of| of.get(id)).cloned();
    let picture = |run: &CaptionRun, image: &str| {
        guard::inside(&run.folder.dir, image).ok().and_then(|path| std::fs::read(path).ok())
    };
    let of_second = of(second);
    let both = of(first).into_iter().filter_map(|(id, own)| {
        let other = *of_second.get(id)?;
        let references =
            references(first, id).filter(|own| !own.is_empty() && Some(own) == references(second, id).as_ref())?;
        let same = picture(first, &own.image) == picture(second, &other.image);
        same.then(|| (caption(own, &references), caption(other, &references)))
    });
    both.unzip()
}

/// A row with its references; the scores of CLIP are those that the run recorded.
fn caption(item: &CaptionItem, references: &[String]) -> Caption {
    let recorded = |clip_score| ClipScores { clip_score, ref_clip_score: item.values.value("ref_clip_score") };
    Caption {
        id: item.id.clone(),
        prediction: item.caption.clone(),
        references: references.to_vec(),
        clip: item.values.value("clip_score").map(recorded),
    }
}
