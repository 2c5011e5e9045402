//! Strategies held against each other on the photos that they share.
//!
//! Metrics with a value of each picture differ by the mean of the paired differences. Those of sets (FID, ArtFID, KID, …)
//! differ by the scores of the two sets, both of the same photos: what is biased at small counts is biased alike. How far
//! either difference would move with other photos follows from how each picture moves its score
//! ([`PictureMetric::moves`]), photo by photo.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::artfid::ScoreOptions;
use super::{PictureMetric, PictureSet};
use crate::metrics::Values;
use crate::metrics::stats::{Estimate, Moving, estimates, holm};

/// The seed of all comparisons: a run gives the same every time.
const SEED: u64 = 0;

/// The pictures of a strategy and the photos that they were made of.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// In the order of the pictures.
    pub ids: &'a [&'a str],
    pub pictures: &'a PictureSet<'a>,
    /// What all its pictures came to.
    pub values: &'a Values,
}

/// A metric of two sides on the photos of both.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedDifference {
    pub metric: &'static str,
    /// Which sides.
    pub pair: (usize, usize),
    /// Photos.
    pub n: usize,
    /// The first's score less the second's.
    pub estimate: Estimate,
    /// Corrected over all pairs of the metric.
    pub p_holm: f64,
}

/// The differences of these pairs by these metrics: metric by metric, in the order of the pairs. A pair with fewer than
/// two photos in common has none, nor has one that a metric cannot score on so few.
pub fn differences(
    sides: &[Side],
    pairs: &[(usize, usize)],
    metrics: &[&'static dyn PictureMetric],
) -> Result<Vec<PairedDifference>> {
    let mut scores = Scores { sides, metrics, known: BTreeMap::new() };
    let places: Vec<HashMap<&str, usize>> =
        sides.iter().map(|side| side.ids.iter().enumerate().map(|(at, id)| (*id, at)).collect()).collect();
    let mut of_pairs = Vec::new();
    for &(first, second) in pairs {
        let place = |id: &&str| Some((*places[first].get(id)?, *places[second].get(id)?));
        let common: Vec<(usize, usize)> = sides[first].ids.iter().filter_map(place).collect();
        if common.len() < 2 {
            continue;
        }
        let (of_first, of_second) = common.iter().copied().unzip();
        let (a, b) = (scores.of(first, of_first), scores.of(second, of_second));
        let both = a.iter().zip(&b).map(|(a, b)| Some(a.as_ref()?.less(b.as_ref()?)));
        of_pairs.push(((first, second), both.collect::<Vec<Option<Moving>>>()));
    }
    let mut scored: Vec<(&'static str, (usize, usize), Moving)> = Vec::new();
    for (at, metric) in metrics.iter().enumerate() {
        let name = metric.about().name;
        scored.extend(of_pairs.iter().filter_map(|(pair, both)| Some((name, *pair, both[at].clone()?))));
    }
    let moving: Vec<&Moving> = scored.iter().map(|(_, _, moving)| moving).collect();
    let estimates = estimates(&moving, pairs.len(), SEED)?;
    let row = |((metric, pair, moving), estimate): ((&'static str, (usize, usize), Moving), Estimate)| {
        PairedDifference { metric, pair, n: moving.by_item.len(), estimate, p_holm: 1.0 }
    };
    let mut found: Vec<PairedDifference> = scored.into_iter().zip(estimates).map(row).collect();
    for of_metric in found.chunk_by_mut(|a, b| a.metric == b.metric) {
        let p_values: Vec<f64> = of_metric.iter().map(|difference| difference.estimate.p_value).collect();
        of_metric.iter_mut().zip(holm(&p_values)).for_each(|(difference, p_holm)| difference.p_holm = p_holm);
    }
    Ok(found)
}

/// The scores of all sides on the photos that all of them have a picture of, by side and metric, and how many photos
/// those are; none where they are fewer than two.
pub fn on_common_photos(
    sides: &[Side],
    metrics: &[&'static dyn PictureMetric],
) -> Option<(usize, Vec<Vec<Option<Moving>>>)> {
    let places: Vec<HashMap<&str, usize>> =
        sides.iter().map(|side| side.ids.iter().enumerate().map(|(at, id)| (*id, at)).collect()).collect();
    let common: Vec<&str> =
        sides.first()?.ids.iter().filter(|id| places.iter().all(|places| places.contains_key(*id))).copied().collect();
    if common.len() < 2 {
        return None;
    }
    let mut scores = Scores { sides, metrics, known: BTreeMap::new() };
    let of_side = |side: usize| {
        let own = common.iter().filter_map(|id| places[side].get(id).copied()).collect();
        scores.of(side, own)
    };
    Some((common.len(), (0..sides.len()).map(of_side).collect()))
}

/// Scores of sides on some of their photos, each computed once.
struct Scores<'a> {
    sides: &'a [Side<'a>],
    metrics: &'a [&'static dyn PictureMetric],
    known: BTreeMap<(usize, Vec<usize>), Vec<Option<Moving>>>,
}

impl Scores<'_> {
    /// A score for each metric; none of a metric that cannot be had of so few.
    fn of(&mut self, side: usize, places: Vec<usize>) -> Vec<Option<Moving>> {
        let Side { ids, pictures, values } = self.sides[side];
        let metrics = self.metrics;
        let compute = |places: &[usize]| {
            if places.iter().copied().eq(0..ids.len()) {
                return moving(pictures, metrics, Some(values));
            }
            let options = ScoreOptions { resamples: 0, ..pictures.options.clone() };
            moving(&pictures.only(places, &options), metrics, None)
        };
        let scores = |(_, places): &(usize, Vec<usize>)| compute(places);
        self.known.entry((side, places)).or_insert_with_key(scores).clone()
    }
}

/// The scores of a set of pictures by these metrics, each with how single pictures move it. Those that are known are not
/// computed again.
pub fn moving(
    pictures: &PictureSet,
    metrics: &[&'static dyn PictureMetric],
    known: Option<&Values>,
) -> Vec<Option<Moving>> {
    let score = |metric: &&'static dyn PictureMetric| {
        let value = || -> Result<Option<f64>> {
            match known {
                Some(values) => Ok(values.value(metric.about().name)),
                None => Ok(metric.of_set(pictures)?.value),
            }
        };
        let score = || anyhow::Ok((value()?, metric.moves(pictures)?));
        match score() {
            Ok((value, by_item)) => {
                let moving = Moving { value: value?, by_item };
                moving.by_item.iter().all(|value| value.is_finite()).then_some(moving)
            }
            Err(error) => {
                tracing::debug!("no {} of these pictures: {error:#}", metric.about().label);
                None
            }
        }
    };
    metrics.iter().map(score).collect()
}
