//! What the numbers say, in words: the best strategy, and how far to trust that.

use super::{DECIDING, StyleRun};
use crate::report::number::{equal, short};
use crate::run::compared::CERTAIN;
use crate::run::style::{Comparison, ResultRow};

/// Below this many pictures the rank-deficient covariances and the spread of single pictures decide
/// more than the strategies do.
const ENOUGH_TO_RANK: usize = 100;
/// The features of art-Inception, where the run does not say how many its own network has. From fewer pictures FID
/// comes out too large.
const FEATURES: usize = 2048;

/// The answer in one sentence, and what the reader must know beside it.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    pub sentence: String,
    pub warnings: Vec<String>,
}

/// Reads the results as a careful colleague would.
pub fn verdict(run: &StyleRun) -> Verdict {
    let ranked: Vec<&ResultRow> = run.ranking().into_iter().map(|at| &run.results[at]).collect();
    let (measured, unmeasured): (Vec<&ResultRow>, Vec<&ResultRow>) =
        ranked.into_iter().partition(|row| row.values.value(DECIDING.name).is_some());
    let mut warnings = sample_warnings(&measured, run.features.unwrap_or(FEATURES));
    if !unmeasured.is_empty() && !measured.is_empty() {
        warnings.push(format!("Without an ArtFID: {}.", names(&unmeasured)));
    }
    if run.folder.is_unfinished() {
        warnings.insert(0, "This run did not finish: the values are of the pictures made so far.".to_string());
    }
    let failed: usize = run.items.iter().filter(|item| item.status == "failed").count();
    if failed > 0 {
        warnings.push(format!("{failed} of {} pictures failed; they are listed below.", run.items.len()));
    }
    Verdict { sentence: paired(run, &measured).unwrap_or_else(|| sentence(&measured)), warnings }
}

/// The best against each other strategy on the same photos; none where the run has no comparison of some pair.
fn paired(run: &StyleRun, measured: &[&ResultRow]) -> Option<String> {
    let (best, others) = measured.split_first().filter(|(_, others)| !others.is_empty())?;
    let name = &best.strategy;
    let against = |other: &&ResultRow| run.compared(DECIDING.name, &other.strategy, name);
    let all: Vec<Comparison> = others.iter().map(against).collect::<Option<_>>()?;
    let close: Vec<&Comparison> = all.iter().filter(|row| row.corrected() >= CERTAIN).collect();
    let within = interval(best)
        .map_or(String::new(), |(low, high)| format!(" (95 % interval {} to {})", short(Some(low)), short(Some(high))));
    let value = format!("{}{within}", short(best.values.value(DECIDING.name)));
    let greatest = all.iter().map(Comparison::corrected).fold(0.0, f64::max);
    let apart = |row: &Comparison| {
        let ends = format!("95 % interval {} to {}", short(Some(row.low)), short(Some(row.high)));
        format!("{} ({ends}, paired bootstrap p {})", short(Some(row.difference)), equal(row.corrected()))
    };
    Some(match (all.as_slice(), close.as_slice()) {
        ([other], []) => format!(
            "{name} is best with an ArtFID of {value}: on the same photos {} lies higher by {}.",
            other.first,
            apart(other)
        ),
        (_, []) => format!(
            "{name} is best with an ArtFID of {value}: on the same photos every other strategy lies higher (paired \
             bootstrap, largest p {} after Holm's correction).",
            equal(greatest)
        ),
        (_, [one]) => format!(
            "{name} has the lowest ArtFID, {value}, but on the same photos the difference from {} is only {}: this run \
             does not tell the two apart.",
            one.first,
            apart(one)
        ),
        (_, many) => {
            let listed: Vec<&str> = many.iter().map(|row| row.first.as_str()).collect();
            let listed = if many.len() > 4 { format!("{} other strategies", many.len()) } else { join(&listed) };
            let least = many.iter().map(|row| row.corrected()).fold(1.0, f64::min);
            format!(
                "{name} has the lowest ArtFID, {value}, but on the same photos it is not surely lower than that of {listed} \
                 (paired bootstrap, smallest p {} after Holm's correction): this run does not tell them apart.",
                equal(least)
            )
        }
    })
}

fn sentence(measured: &[&ResultRow]) -> String {
    let Some((best, others)) = measured.split_first() else {
        return "No strategy has an ArtFID, so there is nothing to compare.".to_string();
    };
    let name = &best.strategy;
    let value = short(best.values.value(DECIDING.name));
    let Some((low, high)) = interval(best) else {
        return match others {
            [] => format!("{name} reaches an ArtFID of {value}; there is no other strategy to compare it with."),
            _ => format!("{name} has the lowest ArtFID, {value}; without intervals the differences cannot be judged."),
        };
    };
    let value = format!("{value} (95 % interval {} to {})", short(Some(low)), short(Some(high)));
    let close: Vec<&ResultRow> =
        others.iter().filter(|row| interval(row).is_none_or(|(l, h)| l <= high && low <= h)).copied().collect();
    match (others, close.as_slice()) {
        ([], _) => format!("{name} reaches an ArtFID of {value}; there is no other strategy to compare it with."),
        (_, []) => format!("{name} is best with an ArtFID of {value}; its interval overlaps with no other."),
        (_, [one]) => format!(
            "{name} has the lowest ArtFID, {value}, but the interval of {} overlaps with it: \
             this run does not tell the two apart.",
            one.strategy
        ),
        (_, many) => format!(
            "{name} has the lowest ArtFID, {value}, but the intervals of {} overlap with it: \
             this run does not tell them apart.",
            if many.len() > 4 { format!("{} other strategies", many.len()) } else { names(many) }
        ),
    }
}

fn interval(row: &ResultRow) -> Option<(f64, f64)> {
    row.values.interval(DECIDING.name).map(|interval| (interval.low, interval.high))
}

fn names(rows: &[&ResultRow]) -> String {
    join(&rows.iter().map(|row| row.strategy.as_str()).collect::<Vec<_>>())
}

fn join(names: &[&str]) -> String {
    match names {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        _ => names.concat(),
    }
}

fn sample_warnings(measured: &[&ResultRow], features: usize) -> Vec<String> {
    let counts = || measured.iter().map(|row| row.n);
    let (Some(least), Some(most)) = (counts().min(), counts().max()) else { return Vec::new() };
    let mut warnings = Vec::new();
    let pictures = if least == 1 { "picture" } else { "pictures" };
    if least < ENOUGH_TO_RANK && measured.len() > 1 {
        warnings.push(format!(
            "The sample is too small to rank strategies: {least} {pictures} where at least {ENOUGH_TO_RANK} are needed. \
             Take the order as a hint."
        ));
    } else if least < ENOUGH_TO_RANK {
        warnings.push(format!("The sample is small ({least} {pictures}): the values may be far from those of many."));
    }
    if least < features {
        warnings.push(format!(
            "FID from fewer than {features} pictures, the features of its network, comes out too large: compare it only between strategies of this \
             table, not with values published elsewhere."
        ));
    }
    if least != most {
        warnings.push(format!(
            "The strategies have between {least} and {most} pictures, and FID falls with their number: small differences may \
             come from that."
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Value, Values};

    fn scored(value: Option<f64>, half: f64) -> Values {
        let end = |way: f64| value.map(|v| v + way * half).filter(|_| half > 0.0);
        let mut values = Values::default();
        values.set(DECIDING.name, Value { value, low: end(-1.0), high: end(1.0) });
        values
    }

    fn run(values: &[(&str, Option<f64>, f64, usize)]) -> StyleRun {
        let row = |(name, artfid, half, n): &(&str, Option<f64>, f64, usize)| ResultRow {
            strategy: name.to_string(),
            values: scored(*artfid, *half),
            n: *n,
            ..Default::default()
        };
        StyleRun { results: values.iter().map(row).collect(), ..Default::default() }
    }

    #[test]
    fn the_sentence_says_best_and_whether_it_is_certain() {
        let said = |values: &[_]| verdict(&run(values)).sentence;
        let (a, b) = (("a", Some(20.0), 1.0, 3000), ("b", Some(10.0), 1.0, 3000));
        let best =
            "b is best with an ArtFID of 10.00 (95 % interval 9.000 to 11.00); its interval overlaps with no other.";
        assert_eq!(said(&[a, b]), best);
        assert!(said(&[a, b, ("c", Some(11.5), 1.0, 9)]).contains("but the interval of c overlaps with it"));
        let two = [a, b, ("c", Some(11.5), 1.0, 9), ("d", Some(12.0), 0.0, 9)];
        assert!(said(&two).contains("but the intervals of c and d overlap"), "no interval is no certainty");
        assert!(said(&[b]).contains("no other strategy"));
        assert!(said(&[("a", Some(1.0), 0.0, 1), ("b", Some(2.0), 0.0, 1)]).contains("cannot be judged"));
        assert!(said(&[("a", None, 0.0, 0), ("b", Some(f64::NAN), 0.0, 0)]).starts_with("No strategy"));
    }

    /// Intervals that overlap hide what the same photos show, and the other way round.
    #[test]
    fn pairs_on_the_same_photos_decide_where_there_are_some() {
        let compared = |first: &str, second: &str, difference: f64, p_value: f64| Comparison {
            metric: DECIDING.name.into(),
            first: first.into(),
            second: second.into(),
            difference,
            low: difference - 0.5,
            high: difference + 0.5,
            p_value,
            ..Comparison::default()
        };
        let (a, b, c) = (("a", Some(10.0), 2.0, 3000), ("b", Some(11.0), 2.0, 3000), ("c", Some(12.0), 2.0, 3000));
        let said =
            |values: &[_], comparisons: Vec<Comparison>| verdict(&StyleRun { comparisons, ..run(values) }).sentence;
        let (ab, ac) = (compared("a", "b", -1.0, 0.002), compared("a", "c", -2.0, 0.0001));
        assert_eq!(
            said(&[a, b], vec![ab.clone()]),
            "a is best with an ArtFID of 10.00 (95 % interval 8.000 to 12.00): on the same photos b lies higher by 1.000 \
             (95 % interval 0.500 to 1.500, paired bootstrap p = 0.002)."
        );
        let both = said(&[a, b, c], vec![ab.clone(), ac.clone(), compared("b", "c", -1.0, 0.5)]);
        assert!(both.contains("every other strategy lies higher (paired bootstrap, largest p = 0.002"), "{both}");
        let close = said(&[a, b, c], vec![Comparison { p_holm: Some(0.06), ..ab.clone() }, ac.clone()]);
        assert!(close.contains("but on the same photos the difference from b is only 1.000"), "{close}");
        assert!(close.ends_with("p = 0.060): this run does not tell the two apart."), "{close}");
        let none = said(&[a, b, c], vec![compared("a", "b", -1.0, 0.3), compared("c", "a", 2.0, 0.2)]);
        assert!(none.contains("not surely lower than that of b and c (paired bootstrap, smallest p = 0.200"), "{none}");
        assert!(said(&[a, b, c], vec![ab]).contains("intervals of b and c overlap"), "a pair is not known");
    }

    #[test]
    fn small_and_unequal_samples_are_warned_of() {
        let warnings = |values: &[_]| verdict(&run(values)).warnings.join("\n");
        let small = warnings(&[("a", Some(1.0), 0.1, 24), ("b", Some(2.0), 0.1, 23), ("c", None, 0.0, 0)]);
        for part in [
            "too small to rank strategies: 23 pictures",
            "fewer than 2048",
            "between 23 and 24",
            "Without an ArtFID: c.",
        ] {
            assert!(small.contains(part), "{part} in {small}");
        }
        let mut own = run(&[("a", Some(1.0), 0.1, 300)]);
        own.features = Some(256);
        assert!(!verdict(&own).warnings.join("").contains("too large"), "the network has fewer features than that");
        assert_eq!(warnings(&[("a", Some(1.0), 0.1, 5000), ("b", Some(2.0), 0.1, 5000)]), "");
    }
}
