//! What each value of an axis does, over the photos and the values of the other axes.

use std::collections::BTreeMap;

use anyhow::Result;

use super::comparisons::{asked, sides};
use super::config::Config;
use super::results::Scored;
use crate::metrics::image::paired::on_common_photos;
use crate::metrics::stats::{Estimate, Moving, estimates};
use crate::run::factors::{Factor, factors};
use crate::run::style::{EffectRow, ResultRow};

/// Of the resamples: a run gives the same every time.
const SEED: u64 = 0;

/// The rows of `effects.csv`; none where fewer than two axes vary.
///
/// All of it is said of the photos that every measured strategy has a picture of, and of an axis only where each of its
/// values was measured beside the same values of the others: what a value seems to do is not what failed under it.
pub fn effects(config: &Config, measured: &[Scored]) -> Result<Option<Vec<EffectRow>>> {
    let scored: Vec<&Scored> = measured.iter().filter(|strategy| strategy.pictures.is_some()).collect();
    let results: Vec<ResultRow> = measured.iter().map(|strategy| strategy.result.clone()).collect();
    let toml::Value::Table(config_table) = toml::Value::try_from(config)? else { return Ok(None) };
    if factors(&config_table, &results).len() < 2 {
        return Ok(None);
    }
    let results: Vec<ResultRow> = scored.iter().map(|strategy| strategy.result.clone()).collect();
    let factors = factors(&config_table, &results);
    let metrics = asked(config);
    let (_, sides) = sides(measured);
    let Some((photos, scores)) = on_common_photos(&sides, &metrics) else { return Ok(Some(Vec::new())) };
    let mut rows = Vec::new();
    for (at, factor) in factors.iter().enumerate() {
        let blocks = blocks(&factors, at);
        for (column, metric) in metrics.iter().enumerate() {
            let score = |strategy: &usize| scores[*strategy][column].as_ref();
            let of_value =
                |value: usize| -> Option<Vec<&Moving>> { blocks.iter().map(|block| score(&block[value])).collect() };
            let Some(by_value) = (0..factor.values.len()).map(of_value).collect::<Option<Vec<_>>>() else { continue };
            if blocks.is_empty() {
                continue;
            }
            rows.extend(of_axis(factor, metric.about().name, photos, &by_value)?);
        }
    }
    Ok(Some(rows))
}

/// A row for each value of an axis, from the scores of its strategies by value.
fn of_axis(factor: &Factor, metric: &str, photos: usize, by_value: &[Vec<&Moving>]) -> Result<Vec<EffectRow>> {
    let means: Vec<Moving> = by_value.iter().filter_map(|scores| Moving::mean_of(scores.iter().copied())).collect();
    let apart: Vec<Moving> = (0..means.len())
        .filter_map(|at| {
            let others: Vec<&Moving> =
                (0..means.len()).filter(|other| *other != at).map(|other| &means[other]).collect();
            Some(means[at].less(&Moving::mean_of(others.into_iter())?))
        })
        .collect();
    let all: Vec<&Moving> = means.iter().chain(&apart).collect();
    let estimates = estimates(&all, means.len(), SEED)?;
    let (of_means, of_effects) = estimates.split_at(means.len());
    let row = |(at, (mean, effect)): (usize, (&Estimate, &Estimate))| EffectRow {
        axis: factor.axis.key.to_string(),
        value: factor.values[at].clone(),
        metric: metric.to_string(),
        n: photos * by_value[at].len(),
        mean: mean.value,
        low: mean.interval.low,
        high: mean.interval.high,
        p_value: effect.p_value,
    };
    Ok(of_means.iter().zip(of_effects).enumerate().map(row).collect())
}

/// For each combination of the other axes' values the strategies of all values of this one, in the order of its values.
/// Combinations that lack one are left out.
fn blocks(factors: &[Factor], axis: usize) -> Vec<Vec<usize>> {
    let mut found: BTreeMap<Vec<usize>, BTreeMap<usize, usize>> = BTreeMap::new();
    for row in 0..factors[axis].of_rows.len() {
        let others = factors.iter().enumerate().filter(|(at, _)| *at != axis).map(|(_, factor)| factor.of_rows[row]);
        found.entry(others.collect()).or_default().insert(factors[axis].of_rows[row], row);
    }
    let whole = found.into_values().filter(|block| block.len() == factors[axis].values.len());
    whole.map(|block| block.into_values().collect()).collect()
}
