//! What people said, as the page's tables.

use serde::Serialize;

use crate::metrics::people::Correlation;
use crate::metrics::stats::Interval;
use crate::report::number::short;
use crate::report::page::css_color;
use crate::report::style::people::{OfMeasure, OfPair, probability, said};
use crate::report::style::people_verdict::verdict;
use crate::report::style::{StyleRun, plots};

/// The section of the page.
#[derive(Debug, Serialize)]
pub struct People {
    /// For the head of the page.
    verdict: Option<String>,
    sentence: String,
    notes: Vec<String>,
    strategies: Vec<Line>,
    pairs: Vec<Line>,
    measures: Vec<Line>,
}

/// A row: its head with the strategy's colour, and its cells.
#[derive(Debug, Serialize)]
struct Line {
    head: String,
    color: String,
    cells: Vec<PeopleCell>,
}

#[derive(Debug, Default, Serialize)]
struct PeopleCell {
    text: String,
    small: String,
    bold: bool,
}

/// The section; None where no one said anything.
pub fn people(run: &StyleRun) -> Option<People> {
    let said = said(run)?;
    let colors = plots::strategy_colors(run);
    let of_strategy = |at: usize| {
        let of = &said.strategies[at];
        let reasons: Vec<String> = of.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        Line {
            head: run.results[at].strategy.clone(),
            color: css_color(colors[at]),
            cells: vec![
                plain(of.rated.to_string()),
                of.success.map_or_else(none, |(share, interval)| share_cell(share, interval)),
                plain(if reasons.is_empty() { "–".to_string() } else { reasons.join(", ") }),
                plain(of.votes.to_string()),
                of.strength.map_or_else(none, |(value, interval)| with_interval(value, interval)),
            ],
        }
    };
    let name = |at: usize| run.results[at].strategy.as_str();
    let mut pairs: Vec<&OfPair> = said.pairs.iter().collect();
    pairs.sort_by(|a, b| a.p_holm.total_cmp(&b.p_holm));
    Some(People {
        verdict: verdict(run, &said),
        sentence: said.sentence(),
        notes: said.notes(),
        strategies: said.order().into_iter().map(of_strategy).collect(),
        pairs: pairs.into_iter().map(|pair| of_pair(pair, name(pair.first), name(pair.second))).collect(),
        measures: said.measures.iter().map(of_measure).collect(),
    })
}

fn of_pair(pair: &OfPair, first: &str, second: &str) -> Line {
    let telling = pair.p_holm < 0.05;
    Line {
        head: format!("{first} − {second}"),
        color: String::new(),
        cells: vec![
            plain(pair.wins.to_string()),
            plain(pair.losses.to_string()),
            plain(pair.ties.to_string()),
            PeopleCell { bold: telling, ..with_interval(pair.difference.value, pair.difference.interval) },
            PeopleCell { bold: telling, ..plain(probability(pair.p_holm)) },
        ],
    }
}

fn of_measure(measure: &OfMeasure) -> Line {
    let correlation = |Correlation { rho, interval, .. }: Correlation| match interval {
        Some(interval) => with_interval(rho, interval),
        None => plain(short(Some(rho))),
    };
    let n = measure.correlation.map_or(0, |correlation| correlation.n);
    let votes = |(share, interval, n): (f64, Interval, usize)| {
        let cell = share_cell(share, interval);
        PeopleCell { text: format!("{} of {n}", cell.text), ..cell }
    };
    Line {
        head: measure.label.clone(),
        color: String::new(),
        cells: vec![
            measure.correlation.map_or_else(none, correlation),
            plain(measure.p_holm.map_or("–".to_string(), probability)),
            plain(n.to_string()),
            measure.votes.map_or_else(none, votes),
        ],
    }
}

fn plain(text: String) -> PeopleCell {
    PeopleCell { text, ..PeopleCell::default() }
}

fn none() -> PeopleCell {
    plain("–".to_string())
}

fn with_interval(value: f64, Interval { low, high }: Interval) -> PeopleCell {
    PeopleCell {
        text: short(Some(value)),
        small: format!("{} to {}", short(Some(low)), short(Some(high))),
        bold: false,
    }
}

fn share_cell(share: f64, Interval { low, high }: Interval) -> PeopleCell {
    let percent = |value: f64| format!("{:.0}", 100.0 * value);
    PeopleCell {
        text: format!("{} %", percent(share)),
        small: format!("{} to {} %", percent(low), percent(high)),
        bold: false,
    }
}
