//! What people said of a style run as tables for papers: of each strategy, of pairs of them, and of the metrics.

use crate::metrics::people::StrengthDifference;
use crate::metrics::stats::Interval;
use crate::report::number::short;
use crate::report::style::StyleRun;
use crate::report::style::people::{OfMeasure, OfPair, OfStrategy, Said, probability, said};
use crate::report::table::{Cell, Column, Results, Row};

/// Three tables, those that have rows; none where no one said anything.
pub fn tables(run: &StyleRun) -> Vec<Results> {
    let Some(said) = said(run) else { return Vec::new() };
    let mut tables = vec![strategies(run, &said), pairs(run, &said), measures(run, &said)];
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn strategies(run: &StyleRun, said: &Said) -> Results {
    let best = |value: fn(&OfStrategy) -> Option<f64>| {
        let values: Vec<f64> = said.strategies.iter().filter_map(value).collect();
        let best = values.iter().copied().reduce(f64::max)?;
        // Where all are equal none is the best.
        values.iter().any(|value| *value != best).then_some(best)
    };
    let (share, strength) = (|of: &OfStrategy| Some(of.success?.0), |of: &OfStrategy| Some(of.strength?.0));
    let (best_share, best_strength) = (best(share), best(strength));
    let row = |at: usize| {
        let of = &said.strategies[at];
        let reasons: Vec<String> = of.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let success = of.success.map_or_else(none, |(value, interval)| percent(value, interval));
        let voted = of.strength.map_or_else(none, |(value, interval)| number(value, interval));
        Row {
            group: String::new(),
            cells: vec![
                Cell::plain(&run.results[at].strategy),
                Cell::plain(of.rated.to_string()),
                Cell { is_best: share(of).is_some() && share(of) == best_share, ..success },
                Cell::plain(if reasons.is_empty() { "–".to_string() } else { reasons.join(", ") }),
                Cell::plain(of.votes.to_string()),
                Cell { is_best: strength(of).is_some() && strength(of) == best_strength, ..voted },
            ],
        }
    };
    let caption = format!(
        "{} {} Success rate: the mean over its rated pictures of the share of raters who call the picture a success, with \
         the Wilson interval. Strength: Bradley-Terry log-odds of the blind votes beside the mean strategy, a tie as half a \
         win for each. In brackets 95 % intervals.",
        said.sentence(),
        said.notes().join(" ")
    );
    Results {
        name: format!("{} people", run.folder.title()),
        caption,
        columns: vec![
            Column::text("Strategy"),
            Column::number("Rated pictures", None),
            Column::number("Success rate in %", Some(true)),
            Column::text("Why it failed"),
            Column::number("Votes", None),
            Column::number("Strength", Some(true)),
        ],
        rows: said.order().into_iter().map(row).collect(),
    }
}

fn pairs(run: &StyleRun, said: &Said) -> Results {
    let name = |at: usize| run.results[at].strategy.as_str();
    let row = |pair: &OfPair| {
        let StrengthDifference { value, interval, .. } = pair.difference;
        let counts = [pair.wins, pair.losses, pair.ties].map(|count| Cell::plain(count.to_string()));
        let mut cells = vec![Cell::plain(name(pair.first)), Cell::plain(name(pair.second))];
        cells.extend(counts);
        cells.extend([number(value, interval), Cell::plain(probability(pair.p_holm))]);
        Row { group: String::new(), cells }
    };
    let mut pairs: Vec<&OfPair> = said.pairs.iter().collect();
    pairs.sort_by(|a, b| a.p_holm.total_cmp(&b.p_holm));
    Results {
        name: format!("{} votes", run.folder.title()),
        caption: "Blind votes on two pictures of one photo: how often the first strategy was preferred, and the difference of \
                  their Bradley-Terry strengths with its 95 % interval and its two-sided probability by chance, after Holm's \
                  correction over all pairs."
            .to_string(),
        columns: vec![
            Column::text("First"),
            Column::text("Second"),
            Column::number("Preferred", None),
            Column::number("Not preferred", None),
            Column::number("Ties", None),
            Column::number("Difference of strengths", None),
            Column::number("p (Holm)", None),
        ],
        rows: pairs.into_iter().map(row).collect(),
    }
}

fn measures(run: &StyleRun, said: &Said) -> Results {
    let row = |measure: &OfMeasure| {
        let rho = measure.correlation.map_or_else(none, |correlation| match correlation.interval {
            Some(interval) => number(correlation.rho, interval),
            None => Cell::plain(short(Some(correlation.rho))),
        });
        let (votes, decided) =
            measure.votes.map_or_else(|| (none(), 0), |(share, interval, decided)| (percent(share, interval), decided));
        Row {
            group: String::new(),
            cells: vec![
                Cell::plain(&measure.label),
                Cell::plain(measure.correlation.map_or(0, |correlation| correlation.n).to_string()),
                rho,
                Cell::plain(measure.p_holm.map_or("–".to_string(), probability)),
                Cell::plain(decided.to_string()),
                votes,
            ],
        }
    };
    Results {
        name: format!("{} metrics and people", run.folder.title()),
        caption: "How far metrics go with people: Spearman's rank correlation of each metric, turned so that more is better, \
                  with the share of raters who call a picture a success, and how many of the decided blind votes went to the \
                  picture that the metric finds better (50 % by chance). In brackets 95 % intervals; p after Holm's \
                  correction over all metrics."
            .to_string(),
        columns: vec![
            Column::text("Metric"),
            Column::number("Rated pictures", None),
            Column::number("Spearman's ρ", Some(true)),
            Column::number("p (Holm)", None),
            Column::number("Votes", None),
            Column::number("Votes as the metric in %", Some(true)),
        ],
        rows: said.measures.iter().map(row).collect(),
    }
}

fn none() -> Cell {
    Cell::plain("–")
}

fn number(value: f64, Interval { low, high }: Interval) -> Cell {
    let interval = Some((short(Some(low)), short(Some(high))));
    Cell { interval, ..Cell::plain(short(Some(value))) }
}

fn percent(share: f64, Interval { low, high }: Interval) -> Cell {
    let whole = |value: f64| format!("{:.0}", 100.0 * value);
    Cell { interval: Some((whole(low), whole(high))), ..Cell::plain(whole(share)) }
}
