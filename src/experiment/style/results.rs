//! From rows and features to one row a strategy.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use tch::Tensor;

use super::config::Config;
use super::embed::Embeddings;
use super::features::{Features, key};
use super::plan::Cell;
use crate::metrics::image::artfid::ScoreOptions;
use crate::metrics::image::pictures::several;
use crate::metrics::image::{PictureSet, lpips};
use crate::metrics::{is_asked, of_pictures};
use crate::run::style::{ItemRow, ResultRow};

/// The mean feature of the style pictures.
#[derive(Debug)]
pub struct StyleMean(Vec<f64>);

impl StyleMean {
    pub fn of(style: &[Vec<f32>]) -> Self {
        let mut mean = vec![0.0; style.first().map_or(0, Vec::len)];
        for row in style {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) / style.len() as f64);
        }
        Self(mean)
    }

    /// Euclidean distance of a feature.
    pub fn distance(&self, feature: &[f32]) -> f64 {
        self.0.iter().zip(feature).map(|(mean, value)| (mean - f64::from(*value)).powi(2)).sum::<f64>().sqrt()
    }
}

/// A number as a column: what is not finite stays empty.
pub fn column(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// What was computed of a run's pictures.
#[derive(Debug)]
pub struct Measured<'a> {
    /// In art-Inception, by strategy and id.
    pub features: &'a Features,
    /// Of the style pictures.
    pub style: &'a [Vec<f32>],
    pub embeddings: &'a Embeddings,
}

/// A strategy with what it came to.
#[derive(Debug)]
pub struct Scored<'a> {
    pub result: ResultRow,
    /// The photos of its measured pictures.
    pub ids: Vec<&'a str>,
    /// Its pictures in the order of `ids`; none where they are too few to be scored.
    pub pictures: Option<PictureSet<'a>>,
}

/// How the pictures of a run are scored.
pub fn options(config: &Config) -> ScoreOptions {
    ScoreOptions { mode: config.mode, points: config.points, ..ScoreOptions::default() }
}

/// Every strategy, in the order of the plan. `options` are [`options`] of the configuration.
pub fn score<'a>(
    config: &Config,
    options: &'a ScoreOptions,
    cells: &[Cell],
    rows: &'a [ItemRow],
    measured: &Measured,
) -> Result<Vec<Scored<'a>>> {
    let mut warnings = BTreeSet::new();
    let of_cell = |cell| strategy(config, options, cell, rows, measured, &mut warnings);
    let results = cells.iter().map(of_cell).collect();
    // The same for all strategies but for how well each is told apart, which the intervals say.
    let said = |warning: &String| match warning.split_once(". Strategies that") {
        Some((common, _)) if cells.len() > 1 => common.to_string(),
        _ => warning.clone(),
    };
    let warnings: BTreeSet<String> = warnings.iter().map(said).collect();
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    results
}

fn strategy<'a>(
    config: &Config,
    options: &'a ScoreOptions,
    cell: &Cell,
    rows: &'a [ItemRow],
    measured: &Measured,
    warnings: &mut BTreeSet<String>,
) -> Result<Scored<'a>> {
    let own: Vec<&ItemRow> = rows.iter().filter(|row| row.strategy == cell.strategy).collect();
    let done: Vec<&ItemRow> = own.iter().filter(|row| row.status == "done").copied().collect();
    let mut result = ResultRow {
        strategy: cell.strategy.clone(),
        n: done.len(),
        seconds_per_image: mean(done.iter().filter_map(|row| row.seconds)),
        failed: own.len() - done.len(),
        axes: cell.values.clone(),
        ..ResultRow::default()
    };
    let asked = || of_pictures().filter(|metric| is_asked(&config.shared.metrics, metric.about()));
    let mut items: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for about in of_pictures().map(|metric| metric.about()).filter(|about| about.item.is_some()) {
        let values: Vec<f64> = done.iter().filter_map(|row| row.values.value(about.name)).collect();
        result.values.set_value(about.name, mean(values.iter().copied()));
        items.insert(about.name, values);
    }
    let Measured { features, style, embeddings } = measured;
    let drawn: Vec<&Vec<f32>> = done.iter().filter_map(|row| features.get(&key(&row.strategy, &row.id))).collect();
    if drawn.len() < 2 || items[lpips::NAME].len() != drawn.len() || style.len() < 2 {
        let (drawn, style) = (drawn.len(), style.len());
        let drawn = several(drawn);
        warnings.insert(format!("{}: {drawn} and {style} style pictures are too few for FID", cell.strategy));
        return Ok(Scored { result, ids: Vec::new(), pictures: None });
    }
    let mut pictures = PictureSet::new(matrix(style.iter()), matrix(drawn.into_iter()), items, options);
    for metric in asked() {
        if let Some(embedding) = metric.embedding() {
            pictures.embedded.insert(embedding, embeddings.of(embedding, &done)?);
        }
        let about = metric.about();
        let value = metric.of_set(&pictures);
        let value = value.with_context(|| format!("{} of strategy {}", about.label, cell.strategy))?;
        result.values.set(about.name, value);
    }
    warnings.extend(pictures.warnings().iter().cloned());
    let ids = done.iter().map(|row| row.id.as_str()).collect();
    Ok(Scored { result, ids, pictures: Some(pictures) })
}

/// [pictures, features]
fn matrix<'a>(rows: impl Iterator<Item = &'a Vec<f32>>) -> Tensor {
    let rows: Vec<Tensor> = rows.map(|row| Tensor::from_slice(row)).collect();
    Tensor::stack(&rows, 0)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}
