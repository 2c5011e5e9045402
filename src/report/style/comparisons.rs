//! Strategy against strategy, on the photos that both have a picture of.

use serde::Serialize;

use super::StyleRun;
use crate::metrics::{About, Show};
use crate::report::number::{equal, short, signed};
use crate::run::compared::CERTAIN;
use crate::run::shown;
use crate::run::style::Comparison;

/// Up to so many strategies every pair is shown; of more each against the best.
const MOST_STRATEGIES: usize = 4;

/// The table of the page.
#[derive(Debug, Default, Serialize)]
pub struct ComparisonTable {
    /// Metrics.
    pub columns: Vec<&'static str>,
    pub rows: Vec<ComparedPair>,
    /// Pairs that are in comparisons.csv alone.
    pub more: usize,
}

/// A pair of strategies, with a cell for each metric.
#[derive(Debug, Serialize)]
pub struct ComparedPair {
    first: String,
    second: String,
    n: usize,
    cells: Vec<ComparisonCell>,
}

/// The difference by a metric, its interval and its probability. Empty where the pair has none.
#[derive(Debug, Default, Serialize)]
pub struct ComparisonCell {
    difference: String,
    interval: String,
    p: String,
    is_certain: bool,
}

/// The pairs in the order of the ranking, the better one second: what the other has more.
pub fn table(run: &StyleRun) -> ComparisonTable {
    let metrics: Vec<&'static About> = shown(&run.results, Show::Table)
        .into_iter()
        .filter(|about| run.comparisons.iter().any(|row| row.metric == about.name))
        .collect();
    let names: Vec<&str> = run.ranking().into_iter().map(|at| run.results[at].strategy.as_str()).collect();
    let bests = if names.len() > MOST_STRATEGIES { 1 } else { names.len() };
    let pairs = (0..bests).flat_map(|best| (best + 1..names.len()).map(move |other| (best, other)));
    let row = |(best, other): (usize, usize)| {
        let found: Vec<Option<Comparison>> =
            metrics.iter().map(|about| run.compared(about.name, names[other], names[best])).collect();
        let n = found.iter().flatten().map(|row| row.n).next()?;
        let cells = found.into_iter().map(|row| row.map_or_else(ComparisonCell::default, |row| cell(&row))).collect();
        Some(ComparedPair { first: names[other].to_string(), second: names[best].to_string(), n, cells })
    };
    let rows: Vec<ComparedPair> = pairs.filter_map(row).collect();
    let all = run.comparisons.iter().filter(|row| metrics.first().is_some_and(|about| row.metric == about.name));
    let more = all.count().saturating_sub(rows.len());
    ComparisonTable { columns: metrics.iter().map(|about| about.label).collect(), rows, more }
}

fn cell(row: &Comparison) -> ComparisonCell {
    ComparisonCell {
        difference: signed(row.difference),
        interval: format!("{} to {}", short(Some(row.low)), short(Some(row.high))),
        p: format!("p {}", equal(row.corrected())),
        is_certain: row.corrected() < CERTAIN,
    }
}
