//! Scores of a captioner: each metric per item and over all items, with intervals, and two captioners compared.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::bleu::{self, Counts};
pub use super::corpus::Caption;
use super::{CaptionMetric, Prepared, numpy_random};
use crate::metrics::of_captions;
use crate::metrics::stats::{Interval, RESAMPLES, quantile, resample, two_sided};

/// Which metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// bleu, rouge1, rouge2, rougeL, rougeLsum, meteor as Hugging Face `evaluate` gives them.
    Hf,
    /// Beside those bleu1 to bleu4, rougeL_coco and cider as the COCO caption evaluation gives them.
    Coco,
    /// What needs the pictures too; only runs and `evaluate clip-score` have them.
    Pictures,
}

/// The values of one metric.
#[derive(Debug, Clone)]
pub struct Measured {
    pub name: &'static str,
    /// Over all items.
    pub score: f64,
    /// Of each item, in the order of [`Scores::ids`].
    pub per_item: Vec<f64>,
    total: Total,
}

/// How the score of a set of items comes from the items.
#[derive(Debug, Clone)]
pub enum Total {
    Mean,
    EvaluateBleu(Arc<Vec<Counts>>),
    /// BLEU up to n-grams of this length less one.
    CocoBleu(Arc<Vec<Counts>>, usize),
}

impl Measured {
    pub fn new(name: &'static str, per_item: Vec<f64>, total: Total) -> Measured {
        let mut metric = Measured { name, score: 0.0, per_item, total };
        metric.score = metric.score_of(0..metric.per_item.len());
        metric
    }

    pub fn mean(name: &'static str, per_item: Vec<f64>) -> Measured {
        Measured::new(name, per_item, Total::Mean)
    }

    /// The score of some items, repeats allowed.
    fn score_of(&self, items: impl ExactSizeIterator<Item = usize>) -> f64 {
        let sum = |counts: &[Counts], items: &mut dyn Iterator<Item = usize>| {
            let mut sum = Counts::default();
            items.for_each(|item| sum += &counts[item]);
            sum
        };
        let (number, mut items) = (items.len(), items);
        match &self.total {
            Total::Mean => items.map(|item| self.per_item[item]).sum::<f64>() / number as f64,
            Total::EvaluateBleu(counts) => bleu::evaluate_bleu(&sum(counts, &mut items), false),
            Total::CocoBleu(counts, order) => bleu::coco_bleu(&sum(counts, &mut items))[*order],
        }
    }
}

/// The scores of one captioner.
#[derive(Debug, Clone)]
pub struct Scores {
    pub ids: Vec<String>,
    /// In the order of [`crate::metrics::METRICS`].
    pub metrics: Vec<Measured>,
}

/// Scores captions by all metrics of a profile. Fails when there are none, or one has no reference.
pub fn score(captions: &[Caption], profile: Profile) -> Result<Scores> {
    let profile = |metric: &&dyn CaptionMetric| match metric.profile() {
        Profile::Hf => true,
        Profile::Coco => profile == Profile::Coco,
        Profile::Pictures => false,
    };
    score_by(captions, of_captions().filter(profile))
}

/// Scores captions by these metrics. Fails when there are no captions, or one has no reference and a metric needs them.
pub fn score_by(captions: &[Caption], metrics: impl Iterator<Item = &'static dyn CaptionMetric>) -> Result<Scores> {
    ensure!(!captions.is_empty(), "there are no captions to score");
    let metrics: Vec<&dyn CaptionMetric> = metrics.collect();
    if metrics.iter().any(|metric| metric.needs_references())
        && let Some(caption) = captions.iter().find(|caption| caption.references.is_empty())
    {
        bail!("{:?} has no reference", caption.id);
    }
    let texts = Prepared::new(captions);
    let metrics = metrics.into_iter().map(|metric| metric.measure(&texts)).collect();
    Ok(Scores { ids: captions.iter().map(|caption| caption.id.clone()).collect(), metrics })
}

/// A metric of two captioners over the same items.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptionDifference {
    pub name: &'static str,
    /// The first captioner's score less the second's.
    pub difference: f64,
    pub interval: Interval,
    /// Share of the resamples in which the first is better.
    pub first_better: f64,
    /// Two-sided: twice the smaller share of resamples on one side of 0, at most 1.
    pub p_value: f64,
}

impl Scores {
    /// A metric by its name in [`crate::metrics::METRICS`].
    pub fn metric(&self, name: &str) -> Option<&Measured> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    /// 95 % bootstrap intervals over the items, a row per metric. The same seed gives the same intervals.
    pub fn intervals(&self, seed: u64) -> Result<Vec<Interval>> {
        let resampled = resample(self.ids.len(), seed, |items| {
            self.metrics.iter().map(|metric| metric.score_of(items.iter().copied())).collect::<Vec<f64>>()
        });
        (0..self.metrics.len())
            .map(|metric| Interval::of(&mut resampled.iter().map(|scores| scores[metric]).collect::<Vec<_>>()))
            .collect()
    }

    /// The four ROUGE values as `evaluate` reports them by default: the median of 1000 bootstrapped means, with NumPy's
    /// global generator after `numpy.random.seed(seed)`.
    pub fn rouge_medians(&self, seed: u32) -> Vec<(&'static str, f64)> {
        let mut random = numpy_random::RandomState::new(seed);
        ["rouge1", "rouge2", "rougeL", "rougeLsum"]
            .into_iter()
            .filter_map(|name| {
                let metric = self.metric(name)?;
                let number = metric.per_item.len();
                let mean = |random: &mut numpy_random::RandomState| {
                    (0..number).map(|_| metric.per_item[random.below(number as u32) as usize]).sum::<f64>()
                        / number as f64
                };
                let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean(&mut random)).collect();
                means.sort_unstable_by(f64::total_cmp);
                Some((metric.name, quantile(&means, 0.5)?))
            })
            .collect()
    }
}

/// Compares two captioners over the same items by paired bootstrap (Koehn 2004): both are scored on the same resamples.
/// Items are paired by id; the ids must be the same.
pub fn paired_bootstrap(first: &Scores, second: &Scores, seed: u64) -> Result<Vec<CaptionDifference>> {
    let places: std::collections::HashMap<&str, usize> =
        second.ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    let place = |id: &String| places.get(id.as_str()).copied().with_context(|| format!("{id:?} is only in the first"));
    let places: Vec<usize> = first.ids.iter().map(place).collect::<Result<_>>()?;
    ensure!(places.len() == second.ids.len(), "the second has {} items, the first {}", second.ids.len(), places.len());
    let pairs: Vec<(&Measured, &Measured)> =
        first.metrics.iter().filter_map(|metric| Some((metric, second.metric(metric.name)?))).collect();
    let resampled = resample(first.ids.len(), seed, |items| {
        let difference = |(a, b): &(&Measured, &Measured)| {
            a.score_of(items.iter().copied()) - b.score_of(items.iter().map(|item| places[*item]))
        };
        pairs.iter().map(difference).collect::<Vec<f64>>()
    });
    let compare = |(metric, (a, b)): (usize, &(&Measured, &Measured))| {
        let mut differences: Vec<f64> = resampled.iter().map(|all| all[metric]).collect();
        let (first_better, p_value) = two_sided(&differences);
        Ok(CaptionDifference {
            name: a.name,
            difference: a.score - b.score,
            first_better,
            p_value,
            interval: Interval::of(&mut differences)?,
        })
    };
    pairs.iter().enumerate().map(compare).collect()
}
