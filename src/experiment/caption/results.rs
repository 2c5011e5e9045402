//! From captions to scores: per picture, per model and data set, and between models.

use std::collections::HashSet;

use anyhow::Result;

use super::plan::CaptionerVariant;
use super::references::References;
use crate::metrics::text::captions::{self, Caption, Scores, paired_bootstrap};
use crate::metrics::text::clip_score::ClipScores;
use crate::metrics::text::{CaptionMetric, Measured};
use crate::metrics::{Show, Value, find, is_asked, of_captions};
use crate::run::caption::{CaptionItem, CaptionResult, Comparison};
use crate::run::compared::correct;

/// The bootstrap's seed: a run gives the same intervals every time.
const SEED: u64 = 0;

/// What the captions came to.
#[derive(Debug, Default)]
pub struct Scored {
    pub results: Vec<CaptionResult>,
    pub comparisons: Vec<Comparison>,
}

/// Scores the rows (into their own columns too). A picture without references is not scored, unless none of the data set
/// has any: then by the metrics that need none.
/// `asked` are the metrics of the run; none: all.
pub fn score(
    variants: &[CaptionerVariant],
    datasets: &[&str],
    rows: &mut [CaptionItem],
    references: &References,
    asked: &[String],
) -> Result<Scored> {
    let mut scored = Scored::default();
    for dataset in datasets {
        let mut of_variants: Vec<(&CaptionerVariant, Vec<Caption>)> = Vec::new();
        for variant in variants {
            let captions = scorable(variant, dataset, rows, references);
            let scores = match captions.as_slice() {
                some @ [_, ..] if metrics(asked, some).next().is_some() => {
                    Some(captions::score_by(some, metrics(asked, some))?)
                }
                _ => None,
            };
            let mut result = summary(variant, dataset, rows);
            if let Some(scores) = &scores {
                fill(&mut result, scores, &captions)?;
                fill_rows(rows, variant, dataset, scores);
            }
            scored.results.push(result);
            of_variants.push((variant, captions));
        }
        for (at, first) in of_variants.iter().enumerate() {
            for second in &of_variants[at + 1..] {
                scored.comparisons.extend(compare(dataset, first, second, asked)?);
            }
        }
    }
    correct(&mut scored.comparisons);
    Ok(scored)
}

/// The metrics of the run that say something of these captions.
fn metrics(asked: &[String], captions: &[Caption]) -> impl Iterator<Item = &'static dyn CaptionMetric> {
    let has_references = captions.iter().all(|caption| !caption.references.is_empty());
    let asked = of_captions().filter(|metric| is_asked(asked, metric.about()));
    asked.filter(move |metric| has_references || !metric.needs_references())
}

/// What CLIP said of the caption, where it was asked.
fn clip_of(row: &CaptionItem) -> Option<ClipScores> {
    let clip_score = row.values.value("clip_score")?;
    Some(ClipScores { clip_score, ref_clip_score: row.values.value("ref_clip_score") })
}

/// The captions of a model in a data set that can be scored: those with references, or all where none has any.
fn scorable(variant: &CaptionerVariant, dataset: &str, rows: &[CaptionItem], references: &References) -> Vec<Caption> {
    let own = rows.iter().filter(|row| row.is_done() && row.model == variant.label && row.dataset == dataset);
    let references = references.get(dataset);
    let caption = |row: &CaptionItem| Caption {
        id: row.id.clone(),
        prediction: row.caption.clone(),
        references: references.and_then(|of| of.get(&row.id)).cloned().unwrap_or_default(),
        clip: clip_of(row),
    };
    let all: Vec<Caption> = own.map(caption).collect();
    if all.iter().all(|caption| caption.references.is_empty()) {
        return all;
    }
    all.into_iter().filter(|caption| !caption.references.is_empty()).collect()
}

/// What is known without references.
fn summary(variant: &CaptionerVariant, dataset: &str, rows: &[CaptionItem]) -> CaptionResult {
    let own: Vec<&CaptionItem> =
        rows.iter().filter(|row| row.model == variant.label && row.dataset == dataset).collect();
    let done: Vec<&CaptionItem> = own.iter().filter(|row| row.is_done()).copied().collect();
    let seconds: f64 = done.iter().filter_map(|row| row.seconds).sum();
    let words: usize = done.iter().map(|row| row.words).sum();
    CaptionResult {
        model: variant.label.clone(),
        dataset: dataset.to_string(),
        n: done.len(),
        images_per_second: (seconds > 0.0).then(|| done.len() as f64 / seconds),
        words: (!done.is_empty()).then(|| words as f64 / done.len() as f64),
        failed: own.len() - done.len(),
        captioner: variant.model.clone(),
        strategy: variant.strategy.clone(),
        prompt: variant.instruction.clone().unwrap_or_default(),
        ..CaptionResult::default()
    }
}

fn fill(result: &mut CaptionResult, scores: &Scores, captions: &[Caption]) -> Result<()> {
    for (metric, interval) in scores.metrics.iter().zip(scores.intervals(SEED)?) {
        let has_interval = find(metric.name).is_some_and(|metric| metric.about().interval);
        result.values.set(metric.name, Value::new(metric.score, has_interval.then_some(interval)));
    }
    let references = || captions.iter().flat_map(|caption| &caption.references);
    let words: usize = references().map(|reference| reference.split_whitespace().count()).sum();
    let count = references().count();
    result.reference_words = (count > 0).then(|| words as f64 / count as f64);
    Ok(())
}

fn fill_rows(rows: &mut [CaptionItem], variant: &CaptionerVariant, dataset: &str, scores: &Scores) {
    let places: std::collections::HashMap<&str, usize> =
        scores.ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let recorded: Vec<&Measured> = scores
        .metrics
        .iter()
        .filter(|metric| find(metric.name).is_some_and(|metric| metric.about().show >= Show::Table))
        .collect();
    for row in rows.iter_mut().filter(|row| row.model == variant.label && row.dataset == dataset) {
        let Some(at) = places.get(row.id.as_str()).copied().filter(|_| row.is_done()) else { continue };
        for metric in &recorded {
            row.values.set(metric.name, Value::new(metric.per_item[at], None));
        }
    }
}

/// Two models on the pictures that both described.
fn compare(
    dataset: &str,
    first: &(&CaptionerVariant, Vec<Caption>),
    second: &(&CaptionerVariant, Vec<Caption>),
    asked: &[String],
) -> Result<Vec<Comparison>> {
    let both = |own: &[Caption], other: &[Caption]| -> Vec<Caption> {
        let ids: HashSet<&str> = other.iter().map(|caption| caption.id.as_str()).collect();
        own.iter().filter(|caption| ids.contains(caption.id.as_str())).cloned().collect()
    };
    let (a, b) = (both(&first.1, &second.1), both(&second.1, &first.1));
    if a.is_empty() || metrics(asked, &a).next().is_none() {
        return Ok(Vec::new());
    }
    let (a, b) = (captions::score_by(&a, metrics(asked, &a))?, captions::score_by(&b, metrics(asked, &b))?);
    let row = |difference: captions::CaptionDifference| Comparison {
        dataset: dataset.to_string(),
        metric: difference.name.to_string(),
        first: first.0.label.clone(),
        second: second.0.label.clone(),
        n: a.ids.len(),
        difference: difference.difference,
        low: difference.interval.low,
        high: difference.interval.high,
        first_better: difference.first_better,
        p_value: difference.p_value,
        p_holm: None,
    };
    Ok(paired_bootstrap(&a, &b, SEED)?.into_iter().map(row).collect())
}
