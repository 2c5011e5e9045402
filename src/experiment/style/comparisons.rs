//! Every pair of strategies, on the photos that both have a picture of.

use anyhow::Result;

use super::config::Config;
use super::results::Scored;
use crate::metrics::image::PictureMetric;
use crate::metrics::image::paired::{PairedDifference, Side, differences};
use crate::metrics::{is_asked, of_pictures};
use crate::run::style::Comparison;

/// The rows of `comparisons.csv`: metric by metric, pairs in the order of the plan.
pub fn comparisons(config: &Config, measured: &[Scored]) -> Result<Vec<Comparison>> {
    let (names, sides) = sides(measured);
    let pairs: Vec<(usize, usize)> =
        (0..sides.len()).flat_map(|first| (first + 1..sides.len()).map(move |second| (first, second))).collect();
    let row = |found: PairedDifference| Comparison {
        metric: found.metric.to_string(),
        first: names[found.pair.0].to_string(),
        second: names[found.pair.1].to_string(),
        n: found.n,
        difference: found.estimate.value,
        low: found.estimate.interval.low,
        high: found.estimate.interval.high,
        p_value: found.estimate.p_value,
        p_holm: Some(found.p_holm),
    };
    Ok(differences(&sides, &pairs, &asked(config))?.into_iter().map(row).collect())
}

/// The strategies that have pictures enough to be scored, by name.
pub(super) fn sides<'a>(measured: &'a [Scored]) -> (Vec<&'a str>, Vec<Side<'a>>) {
    let side = |strategy: &'a Scored| {
        let (pictures, values) = (strategy.pictures.as_ref()?, &strategy.result.values);
        Some((strategy.result.strategy.as_str(), Side { ids: &strategy.ids, pictures, values }))
    };
    measured.iter().filter_map(side).unzip()
}

/// The metrics of the run.
pub(super) fn asked(config: &Config) -> Vec<&'static dyn PictureMetric> {
    of_pictures().filter(|metric| is_asked(&config.shared.metrics, metric.about())).collect()
}
