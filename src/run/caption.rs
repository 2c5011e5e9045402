//! The rows of `items.csv`, `results.csv` and `comparisons.csv` of a caption run.

use serde::{Deserialize, Serialize};

use super::compared::Compared;
use super::csv::{Column, Row};
use crate::axes::Axis;
use crate::metrics::text::Profile;
use crate::metrics::{About, Metric, Show, Values, of_captions};

/// One picture as one model described it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptionItem {
    /// As the data set names it.
    pub id: String,
    pub dataset: String,
    /// The model's name in the results.
    pub model: String,
    /// The name of the instruction, where the model has several.
    pub strategy: String,
    /// What the model was asked; empty: its own default.
    pub prompt: String,
    pub caption: String,
    /// New tokens, the end token included.
    pub tokens: usize,
    /// Words of the caption.
    pub words: usize,
    /// Time of this picture, in seconds: its share of the batch.
    pub seconds: Option<f64>,
    /// `done` or `failed`.
    pub status: String,
    /// Why it failed, in one line.
    pub error: String,
    /// The picture's thumbnail, relative to the run folder.
    pub image: String,
    /// The scores of this picture alone.
    #[serde(skip)]
    pub values: Values,
}

/// One model on one data set. Intervals are 95 % bootstrap intervals.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptionResult {
    pub model: String,
    pub dataset: String,
    /// Pictures that were described and scored.
    pub n: usize,
    pub images_per_second: Option<f64>,
    /// Mean words of a caption, and of a reference.
    pub words: Option<f64>,
    pub reference_words: Option<f64>,
    /// Pictures that could not be described.
    pub failed: usize,
    pub captioner: String,
    pub strategy: String,
    pub prompt: String,
    #[serde(skip)]
    pub values: Values,
}

/// Two models on the pictures of a data set that both described.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    pub dataset: String,
    pub metric: String,
    pub first: String,
    pub second: String,
    pub n: usize,
    /// The first's score less the second's, with its 95 % interval.
    pub difference: f64,
    pub low: f64,
    pub high: f64,
    /// Share of the resamples in which the first is better.
    pub first_better: f64,
    /// Two-sided, by paired bootstrap.
    pub p_value: f64,
    /// The same after Holm's correction over all pairs of the metric on the data set.
    pub p_holm: Option<f64>,
}

impl Comparison {
    /// The probability after the correction.
    pub fn corrected(&self) -> f64 {
        self.p_holm.unwrap_or(self.p_value)
    }
}

impl Compared for Comparison {
    fn family(&self) -> (&str, &str) {
        (&self.dataset, &self.metric)
    }

    fn p_value(&self) -> f64 {
        self.p_value
    }

    fn p_holm(&mut self) -> &mut Option<f64> {
        &mut self.p_holm
    }
}

impl CaptionItem {
    pub fn is_done(&self) -> bool {
        self.status == "done"
    }
}

impl Row for Comparison {}

impl Row for CaptionItem {
    fn metrics() -> Vec<&'static dyn Metric> {
        CaptionResult::metrics()
    }

    fn columns(_axes: &[&'static Axis], metrics: &[&'static dyn Metric]) -> Vec<(&'static str, Vec<Column>)> {
        let shown = metrics.iter().map(|metric| metric.about()).filter(|about| about.show >= Show::Table);
        vec![("seconds", shown.filter(|about| about.item.is_some()).map(Column::value).collect())]
    }

    fn values(&self) -> Option<&Values> {
        Some(&self.values)
    }

    fn values_mut(&mut self) -> Option<&mut Values> {
        Some(&mut self.values)
    }
}

impl Row for CaptionResult {
    fn metrics() -> Vec<&'static dyn Metric> {
        of_captions().map(|metric| metric as &dyn Metric).collect()
    }

    /// The order of the first version: what published tables have, what else `evaluate` gives, its intervals; every other
    /// metric with its own interval follows.
    fn columns(_axes: &[&'static Axis], metrics: &[&'static dyn Metric]) -> Vec<(&'static str, Vec<Column>)> {
        let of_profile = |wanted: bool| {
            let is = move |metric: &&&dyn Metric| {
                wanted == metric.of_captions().is_some_and(|metric| metric.profile() == Profile::Hf)
            };
            metrics.iter().filter(is).map(|metric| metric.about())
        };
        let (first, second): (Vec<&About>, Vec<&About>) =
            of_profile(true).partition(|about| about.show == Show::Headline);
        let values = |abouts: Vec<&'static About>| abouts.into_iter().map(Column::value);
        let intervals = of_profile(true).flat_map(Column::interval);
        let others =
            of_profile(false).flat_map(|about| std::iter::once(Column::value(about)).chain(Column::interval(about)));
        vec![
            ("n", values(first).collect()),
            ("images_per_second", values(second).chain(intervals).chain(others).collect()),
        ]
    }

    fn values(&self) -> Option<&Values> {
        Some(&self.values)
    }

    fn values_mut(&mut self) -> Option<&mut Values> {
        Some(&mut self.values)
    }
}
