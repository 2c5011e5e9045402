//! How far the people agree who judged a style run.

use std::collections::{BTreeMap, BTreeSet};

use super::StyleRun;
use crate::metrics::people::{cohen, fleiss};
use crate::run::people::SUCCESS;

/// How far raters agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// `ratings` or `votes`.
    pub of: &'static str,
    pub statistic: &'static str,
    pub kappa: f64,
    /// Pictures, or pairs of pictures, that it is over.
    pub n: usize,
    pub raters: usize,
}

/// On its ratings and on its votes, where several people gave them.
pub fn of_run(run: &StyleRun) -> Vec<Agreement> {
    [of_ratings(run), of_votes(run)].into_iter().flatten().collect()
}

fn of_ratings(run: &StyleRun) -> Option<Agreement> {
    let mut said: BTreeMap<(&str, &str), BTreeMap<&str, usize>> = BTreeMap::new();
    for row in &run.people.ratings {
        let thing = said.entry((&row.id, &row.strategy)).or_default();
        thing.insert(&row.rater, usize::from(row.rating != SUCCESS));
    }
    agreement("ratings", 2, said.into_values().collect())
}

fn of_votes(run: &StyleRun) -> Option<Agreement> {
    type Pair<'a> = (&'a str, &'a str);
    let mut said: BTreeMap<(&str, Pair), BTreeMap<&str, usize>> = BTreeMap::new();
    for vote in &run.people.votes {
        // The same category whichever side a strategy stood on.
        let choice = vote.winner().map_or(2, |winner| usize::from(winner != vote.pair().0));
        said.entry((&vote.id, vote.pair())).or_default().insert(&vote.rater, choice);
    }
    agreement("votes", 3, said.into_values().collect())
}

/// Cohen's κ of two raters, Fleiss' of more over what all of them judged; where that is nothing, the mean of Cohen's
/// over all pairs of raters.
fn agreement(of: &'static str, categories: usize, things: Vec<BTreeMap<&str, usize>>) -> Option<Agreement> {
    let raters: BTreeSet<&str> = things.iter().flat_map(|thing| thing.keys().copied()).collect();
    let raters: Vec<&str> = raters.into_iter().collect();
    let both = |a: &str, b: &str| -> Vec<(usize, usize)> {
        things.iter().filter_map(|thing| Some((*thing.get(a)?, *thing.get(b)?))).collect()
    };
    if let [a, b] = raters.as_slice() {
        let pairs = both(a, b);
        let (n, kappa) = (pairs.len(), cohen(&pairs)?);
        return Some(Agreement { of, statistic: "Cohen's κ", kappa, n, raters: 2 });
    }
    let all: Vec<Vec<usize>> = things
        .iter()
        .filter(|thing| thing.len() == raters.len())
        .map(|thing| (0..categories).map(|c| thing.values().filter(|given| **given == c).count()).collect())
        .collect();
    if let Some(kappa) = fleiss(&all) {
        return Some(Agreement { of, statistic: "Fleiss' κ", kappa, n: all.len(), raters: raters.len() });
    }
    let pairs = raters.iter().enumerate().flat_map(|(k, a)| raters[k + 1..].iter().map(move |b| both(a, b)));
    let known: Vec<(f64, usize)> = pairs.filter_map(|pairs| Some((cohen(&pairs)?, pairs.len()))).collect();
    let n = known.iter().map(|(_, n)| n).sum();
    let kappa = known.iter().map(|(kappa, _)| kappa).sum::<f64>() / known.len() as f64;
    let statistic = "mean Cohen's κ of pairs of raters";
    (!known.is_empty()).then_some(Agreement { of, statistic, kappa, n, raters: raters.len() })
}
