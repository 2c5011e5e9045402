//! From captions to scores: per picture, per model and data set, and between models.

use std::collections::HashSet;

use anyhow::Result;

use super::plan::Voice;
use super::runner::References;
use crate::metrics::text::captions::{self, Caption, Profile, Scores, paired_bootstrap};
use crate::run::caption::{CaptionItem, CaptionResult, Comparison};

/// The bootstrap's seed: a run gives the same intervals every time.
const SEED: u64 = 0;

/// What the captions came to.
#[derive(Debug, Default)]
pub struct Scored {
    pub results: Vec<CaptionResult>,
    pub comparisons: Vec<Comparison>,
}

/// Scores the rows (into their own columns too). A picture without references is not scored.
pub fn score(voices: &[Voice], datasets: &[&str], rows: &mut [CaptionItem], references: &References) -> Result<Scored> {
    let mut scored = Scored::default();
    for dataset in datasets {
        let mut of_voices: Vec<(&Voice, Vec<Caption>)> = Vec::new();
        for voice in voices {
            let captions = scorable(voice, dataset, rows, references);
            let scores = match captions.as_slice() {
                [] => None,
                some => Some(captions::score(some, Profile::Coco)?),
            };
            let mut result = summary(voice, dataset, rows);
            if let Some(scores) = &scores {
                fill(&mut result, scores, &captions)?;
                fill_rows(rows, voice, dataset, scores);
            }
            scored.results.push(result);
            of_voices.push((voice, captions));
        }
        for (at, first) in of_voices.iter().enumerate() {
            for second in &of_voices[at + 1..] {
                scored.comparisons.extend(compare(dataset, first, second)?);
            }
        }
    }
    Ok(scored)
}

fn scorable(voice: &Voice, dataset: &str, rows: &[CaptionItem], references: &References) -> Vec<Caption> {
    let own = rows.iter().filter(|row| row.is_done() && row.model == voice.label && row.dataset == dataset);
    let caption = |row: &CaptionItem| {
        let references = references.get(dataset)?.get(&row.id).filter(|references| !references.is_empty())?;
        Some(Caption { id: row.id.clone(), prediction: row.caption.clone(), references: references.clone() })
    };
    own.filter_map(caption).collect()
}

/// What is known without references.
fn summary(voice: &Voice, dataset: &str, rows: &[CaptionItem]) -> CaptionResult {
    let own: Vec<&CaptionItem> = rows.iter().filter(|row| row.model == voice.label && row.dataset == dataset).collect();
    let done: Vec<&CaptionItem> = own.iter().filter(|row| row.is_done()).copied().collect();
    let seconds: f64 = done.iter().filter_map(|row| row.seconds).sum();
    let words: usize = done.iter().map(|row| row.words).sum();
    CaptionResult {
        model: voice.label.clone(),
        dataset: dataset.to_string(),
        n: done.len(),
        images_per_second: (seconds > 0.0).then(|| done.len() as f64 / seconds),
        words: (!done.is_empty()).then(|| words as f64 / done.len() as f64),
        failed: own.len() - done.len(),
        captioner: voice.model.clone(),
        strategy: voice.strategy.clone(),
        prompt: voice.instruction.clone().unwrap_or_default(),
        ..CaptionResult::default()
    }
}

fn fill(result: &mut CaptionResult, scores: &Scores, captions: &[Caption]) -> Result<()> {
    let value = |name: &str| scores.metric(name).map(|metric| metric.score).filter(|score| score.is_finite());
    let intervals = scores.intervals(SEED)?;
    let interval = |name: &str| {
        let at = scores.metrics.iter().position(|metric| metric.name == name);
        let interval = at.map(|at| intervals[at]);
        (interval.map(|interval| interval.low), interval.map(|interval| interval.high))
    };
    (result.bleu, result.rouge1, result.rouge2) = (value("bleu"), value("rouge1"), value("rouge2"));
    (result.rouge_l, result.rouge_lsum, result.meteor) = (value("rougeL"), value("rougeLsum"), value("meteor"));
    (result.bleu1, result.bleu2, result.bleu3) = (value("bleu1"), value("bleu2"), value("bleu3"));
    (result.bleu4, result.rouge_l_coco, result.cider) = (value("bleu4"), value("rougeL_coco"), value("cider"));
    (result.bleu_low, result.bleu_high) = interval("bleu");
    (result.rouge1_low, result.rouge1_high) = interval("rouge1");
    (result.rouge2_low, result.rouge2_high) = interval("rouge2");
    (result.meteor_low, result.meteor_high) = interval("meteor");
    (result.cider_low, result.cider_high) = interval("cider");
    let references = || captions.iter().flat_map(|caption| &caption.references);
    let words: usize = references().map(|reference| reference.split_whitespace().count()).sum();
    result.reference_words = Some(words as f64 / references().count().max(1) as f64);
    Ok(())
}

fn fill_rows(rows: &mut [CaptionItem], voice: &Voice, dataset: &str, scores: &Scores) {
    let places: std::collections::HashMap<&str, usize> =
        scores.ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let value = |name: &str, at: usize| scores.metric(name).map(|metric| metric.per_item[at]).filter(|v| v.is_finite());
    for row in rows.iter_mut().filter(|row| row.model == voice.label && row.dataset == dataset) {
        let Some(at) = places.get(row.id.as_str()).copied().filter(|_| row.is_done()) else { continue };
        (row.bleu, row.rouge1, row.rouge2) = (value("bleu", at), value("rouge1", at), value("rouge2", at));
        (row.rouge_l, row.meteor, row.cider) = (value("rougeL", at), value("meteor", at), value("cider", at));
    }
}

/// Two models on the pictures that both described.
fn compare(dataset: &str, first: &(&Voice, Vec<Caption>), second: &(&Voice, Vec<Caption>)) -> Result<Vec<Comparison>> {
    let both = |own: &[Caption], other: &[Caption]| -> Vec<Caption> {
        let ids: HashSet<&str> = other.iter().map(|caption| caption.id.as_str()).collect();
        own.iter().filter(|caption| ids.contains(caption.id.as_str())).cloned().collect()
    };
    let (a, b) = (both(&first.1, &second.1), both(&second.1, &first.1));
    if a.is_empty() {
        return Ok(Vec::new());
    }
    let (a, b) = (captions::score(&a, Profile::Coco)?, captions::score(&b, Profile::Coco)?);
    let row = |difference: captions::Difference| Comparison {
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
    };
    Ok(paired_bootstrap(&a, &b, SEED)?.into_iter().map(row).collect())
}
