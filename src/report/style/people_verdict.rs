//! What people said in one sentence, beside that of the numbers.

use super::StyleRun;
use super::people::{OfPair, Said};
use crate::report::number::{equal, short};
use crate::run::compared::CERTAIN;

/// Which strategy people prefer, and how far to trust that; None where too little was said.
pub fn verdict(run: &StyleRun, said: &Said) -> Option<String> {
    by_votes(run, said).or_else(|| by_ratings(run, said))
}

fn by_votes(run: &StyleRun, said: &Said) -> Option<String> {
    let order: Vec<usize> = said.order().into_iter().filter(|at| said.strategies[*at].strength.is_some()).collect();
    let (best, others) = order.split_first().filter(|(_, others)| !others.is_empty())?;
    let name = &run.results[*best].strategy;
    let votes = format!("In {} blind votes", said.votes);
    let pair = |other: &usize| said.pairs.iter().find(|pair| pair.is_of(*best, *other));
    let pairs: Vec<Option<&OfPair>> = others.iter().map(pair).collect();
    let close: Vec<&str> = others
        .iter()
        .zip(&pairs)
        .filter(|(_, pair)| pair.is_none_or(|pair| pair.p_holm >= CERTAIN))
        .map(|(other, _)| run.results[*other].strategy.as_str())
        .collect();
    Some(match close.as_slice() {
        [] => {
            let greatest = pairs.iter().flatten().map(|pair| pair.p_holm).fold(0.0, f64::max);
            let whom = if others.len() == 1 { &run.results[others[0]].strategy } else { "every other strategy" };
            let largest = if others.len() == 1 { "" } else { "largest " };
            format!("{votes} people prefer {name} to {whom} ({largest}p {} after Holm's correction).", equal(greatest))
        }
        few if few.len() <= 3 => {
            format!("{votes} people choose {name} most, but these votes do not tell it from {}.", few.join(" and "))
        }
        many => {
            format!("{votes} people choose {name} most, but these votes do not tell it from {} others.", many.len())
        }
    })
}

fn by_ratings(run: &StyleRun, said: &Said) -> Option<String> {
    let rate = |at: usize| said.strategies[at].success.map(|(share, interval)| (at, share, interval));
    let rated: Vec<_> = (0..said.strategies.len()).filter_map(rate).collect();
    let (at, share, interval) = rated.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let percent = |value: f64| short(Some(100.0 * value));
    let most = if rated.len() > 1 { "most often" } else { "in part" };
    Some(format!(
        "People call pictures of {} a success {most}: {} % (95 % interval {} to {} %).",
        run.results[at].strategy,
        percent(share),
        percent(interval.low),
        percent(interval.high)
    ))
}
