//! The rows of `captions.csv`, `items.csv`, `results.csv`, `comparisons.csv` and `effects.csv` of a style
//! experiment.

use serde::{Deserialize, Serialize};

use super::compared::Compared;
use super::csv::{Column, Row};
use crate::axes::{Axis, AxisValues, columns, strength, style_text};
use crate::metrics::{Metric, Values, of_pictures};

/// A description: computed once for each captioner, instruction and photo.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptionRow {
    pub captioner: String,
    pub instruction: String,
    /// The photo.
    pub id: String,
    pub caption: String,
    pub tokens: usize,
    /// Its share of the time of the batch.
    pub seconds: Option<f64>,
}

/// One picture: an item (photo) under one strategy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ItemRow {
    /// The photo's file stem.
    pub id: String,
    pub strategy: String,
    pub seed: u64,
    /// What the captioner said.
    pub caption: String,
    /// What the generator was given.
    pub prompt: String,
    /// The words of the description that did not fit.
    pub dropped: String,
    /// Time of this picture, in seconds: its share of the batch.
    pub seconds: Option<f64>,
    /// Distance of the picture's art-Inception feature from the mean of the style pictures.
    pub style_distance: Option<f64>,
    /// LPIPS and style distance, each standardised over the run, added; see [`super::gallery_score`].
    pub gallery_score: Option<f64>,
    /// `done` or `failed`.
    pub status: String,
    /// Why it failed, in one line.
    pub error: String,
    /// What the user must know of a picture that was made all the same (drawn again in float32, black, …).
    pub remark: String,
    /// The picture, relative to the run folder.
    pub image: String,
    /// The photo at the size of the comparison, relative to the run folder.
    pub photo: String,
    /// Mean luma of the photo, 0 to 255; this and the following as [`crate::metrics::image::photo`] measures them.
    pub photo_luma: Option<f64>,
    pub photo_sharpness: Option<f64>,
    /// Share of the photo's area that is the largest face; 0 where none was found.
    pub face_share: Option<f64>,
    /// Of this picture, at the size of the comparison.
    #[serde(skip)]
    pub values: Values,
}

/// One strategy over all its pictures. Intervals are 95 % bootstrap intervals.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResultRow {
    pub strategy: String,
    /// Pictures that were made and measured.
    pub n: usize,
    pub seconds_per_image: Option<f64>,
    /// Pictures that failed.
    pub failed: usize,
    /// The strategy's values on the axes, one column each so that a table can be grouped by them.
    #[serde(skip)]
    pub axes: AxisValues,
    #[serde(skip)]
    pub values: Values,
}

impl ResultRow {
    pub fn style_text(&self) -> &str {
        self.axes.get(&style_text::AXIS).text()
    }

    /// How far image-to-image left the photo; none: text-to-image.
    pub fn strength(&self) -> Option<f64> {
        self.axes.get(&strength::AXIS).number()
    }
}

/// Two strategies on the photos that both have a picture of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    pub metric: String,
    pub first: String,
    pub second: String,
    /// Photos.
    pub n: usize,
    /// The first's score less the second's, with its 95 % interval.
    pub difference: f64,
    pub low: f64,
    pub high: f64,
    /// Two-sided, by the studentized paired bootstrap over the photos (see [`crate::metrics::stats::estimates`]).
    pub p_value: f64,
    /// The same after Holm's correction over all pairs of the metric.
    pub p_holm: Option<f64>,
}

impl Comparison {
    /// The probability after the correction.
    pub fn corrected(&self) -> f64 {
        self.p_holm.unwrap_or(self.p_value)
    }

    /// The second less the first.
    pub fn turned(&self) -> Self {
        let (first, second) = (self.second.clone(), self.first.clone());
        Self { first, second, difference: -self.difference, low: -self.high, high: -self.low, ..self.clone() }
    }
}

impl Compared for Comparison {
    fn family(&self) -> (&str, &str) {
        ("", &self.metric)
    }

    fn p_value(&self) -> f64 {
        self.p_value
    }

    fn p_holm(&mut self) -> &mut Option<f64> {
        &mut self.p_holm
    }
}

/// What a value of an axis does to a metric, over the photos and the values of the other axes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EffectRow {
    /// The axis by its key, and the value by its name in the configuration.
    pub axis: String,
    pub value: String,
    pub metric: String,
    /// Pictures.
    pub n: usize,
    /// The mean score of the strategies with this value, with its 95 % interval over the photos.
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Two-sided, that it differs from the mean of the axis's other values on the same photos; not corrected.
    pub p_value: f64,
}

impl Row for EffectRow {}

impl Row for CaptionRow {}

impl Row for Comparison {}

impl Row for ItemRow {
    fn metrics() -> Vec<&'static dyn Metric> {
        ResultRow::metrics()
    }

    fn columns(_axes: &[&'static Axis], metrics: &[&'static dyn Metric]) -> Vec<(&'static str, Vec<Column>)> {
        let of_items = metrics.iter().map(|metric| metric.about()).filter(|about| about.item.is_some());
        vec![("seconds", of_items.map(Column::value).collect())]
    }

    fn values(&self) -> Option<&Values> {
        Some(&self.values)
    }

    fn values_mut(&mut self) -> Option<&mut Values> {
        Some(&mut self.values)
    }
}

impl Row for ResultRow {
    fn metrics() -> Vec<&'static dyn Metric> {
        of_pictures().map(|metric| metric as &dyn Metric).collect()
    }

    fn axes() -> Vec<&'static Axis> {
        [&style_text::AXIS].into_iter().chain(columns()).collect()
    }

    fn columns(axes: &[&'static Axis], metrics: &[&'static dyn Metric]) -> Vec<(&'static str, Vec<Column>)> {
        let abouts = || metrics.iter().map(|metric| metric.about());
        let (beside, behind): (Vec<&Axis>, Vec<&Axis>) = axes.iter().partition(|axis| ***axis == style_text::AXIS);
        vec![
            ("strategy", beside.into_iter().map(Column::Axis).collect()),
            ("n", abouts().map(Column::value).chain(abouts().flat_map(Column::interval)).collect()),
            ("failed", behind.into_iter().map(Column::Axis).collect()),
        ]
    }

    fn axis_values(&self) -> Option<&AxisValues> {
        Some(&self.axes)
    }

    fn axis_values_mut(&mut self) -> Option<&mut AxisValues> {
        Some(&mut self.axes)
    }

    fn values(&self) -> Option<&Values> {
        Some(&self.values)
    }

    fn values_mut(&mut self) -> Option<&mut Values> {
        Some(&mut self.values)
    }
}
