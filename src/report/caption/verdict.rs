//! What the numbers say in words: a sentence for each data set, and how far to trust it.

use super::{CaptionRun, DECIDING};
use crate::metrics::{About, Show, find};
use crate::report::number::{equal, short};
use crate::run::caption::{CaptionResult, Comparison};
use crate::run::compared::CERTAIN;
use crate::run::shown;

/// Below this many pictures single captions decide more than the models do.
const ENOUGH: usize = 100;

/// What the numbers say, a sentence for each data set.
pub fn sentences(run: &CaptionRun) -> Vec<String> {
    run.datasets().iter().map(|dataset| format!("On {dataset} {}.", finding(run, dataset))).collect()
}

/// By what the models are ranked on a data set: METEOR, or where nobody wrote references the first metric that needs none.
fn deciding(run: &CaptionRun, dataset: &str) -> Option<&'static About> {
    let own = || run.results.iter().filter(|row| row.dataset == dataset);
    let usual = find(DECIDING).map(|metric| metric.about());
    let all = usual.into_iter().chain(shown(&run.results, Show::Compared));
    all.into_iter().find(|about| own().any(|row| row.values.value(about.name).is_some()))
}

fn finding(run: &CaptionRun, dataset: &str) -> String {
    let Some(about) = deciding(run, dataset) else {
        return "nothing was scored: there are no references".to_string();
    };
    let (name, metric) = (about.name, about.label);
    let mut scored: Vec<(&CaptionResult, f64)> = run
        .results
        .iter()
        .filter(|row| row.dataset == dataset)
        .filter_map(|row| Some((row, row.values.value(name)?)))
        .collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some((&(best, value), others)) = scored.split_first() else {
        return "nothing was scored: there are no references".to_string();
    };
    if value == 0.0 {
        let all = match others.len() {
            0 => best.model.clone(),
            1 => "both models".to_string(),
            _ => "all models".to_string(),
        };
        let have = if others.is_empty() { "has" } else { "have" };
        let why = if name == DECIDING { ": no caption shares a word with its references" } else { "" };
        return format!("{all} {have} a {metric} of 0{why}");
    }
    let shown =
        format!("{}{}", short(Some(value)), interval(best, name).map_or(String::new(), |bounds| within(&bounds)));
    if others.is_empty() {
        return format!("{} reaches a {metric} of {shown}", best.model);
    }
    let equals: Vec<&CaptionResult> = scored.iter().filter(|(_, other)| *other == value).map(|(row, _)| *row).collect();
    if equals.len() > 1 {
        return format!("{} share the highest {metric}, {shown}", names(&equals));
    }
    let others: Vec<&CaptionResult> = others.iter().map(|(row, _)| *row).collect();
    let close: Vec<&CaptionResult> = others.iter().filter(|row| !is_apart(run, name, best, row)).copied().collect();
    let first = format!("{} has the highest {metric}, {shown}", best.model);
    let said = |row: &CaptionResult| format!("{} with {}", row.model, short(row.values.value(name)));
    match close.as_slice() {
        [] => {
            format!("{first}, before {} ({})", said(others[0]), grounds(run, name, best, others[0], "do not overlap"))
        }
        [one] => format!(
            "{first}, but this run does not tell it from {} ({})",
            said(one),
            grounds(run, name, best, one, "overlap")
        ),
        many => format!("{first}, but this run does not tell it from {}", names(many)),
    }
}

/// Whether chance does not explain how much better the first is: by the paired test, else by the intervals.
fn is_apart(run: &CaptionRun, metric: &str, best: &CaptionResult, other: &CaptionResult) -> bool {
    match comparison(run, metric, best, other) {
        Some(row) => row.corrected() < CERTAIN,
        None => interval(best, metric).zip(interval(other, metric)).is_some_and(|(best, other)| other.1 < best.0),
    }
}

/// Why two models are told apart, or not.
fn grounds(run: &CaptionRun, metric: &str, best: &CaptionResult, other: &CaptionResult, intervals: &str) -> String {
    match comparison(run, metric, best, other) {
        Some(row) => format!("paired bootstrap p {}", equal(row.corrected())),
        None if interval(best, metric).and(interval(other, metric)).is_some() => format!("their intervals {intervals}"),
        None => "without intervals the difference cannot be judged".to_string(),
    }
}

fn comparison<'a>(
    run: &'a CaptionRun,
    metric: &str,
    one: &CaptionResult,
    other: &CaptionResult,
) -> Option<&'a Comparison> {
    run.comparisons.iter().find(|row| {
        let pair = [row.first.as_str(), row.second.as_str()];
        let same =
            pair == [one.model.as_str(), other.model.as_str()] || pair == [other.model.as_str(), one.model.as_str()];
        row.dataset == one.dataset && row.metric == metric && same
    })
}

fn interval(row: &CaptionResult, metric: &str) -> Option<(f64, f64)> {
    row.values.interval(metric).map(|interval| (interval.low, interval.high))
}

fn within((low, high): &(f64, f64)) -> String {
    format!(" (95 % interval {} to {})", short(Some(*low)), short(Some(*high)))
}

fn names(rows: &[&CaptionResult]) -> String {
    let names: Vec<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    match names.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        _ => names.concat(),
    }
}

/// What the reader must know beside the numbers.
pub fn warnings(run: &CaptionRun) -> Vec<String> {
    let mut warnings = Vec::new();
    if run.folder.is_unfinished() {
        warnings.push("This run did not finish: the values are of the captions made so far.".to_string());
    }
    let failed = run.items.iter().filter(|item| !item.is_done()).count();
    if failed > 0 {
        warnings.push(format!("{failed} of {} captions failed; they are listed below.", run.items.len()));
    }
    for data_set in run.folder.manifest.get("data_sets").and_then(|list| list.as_array()).into_iter().flatten() {
        let count = |key: &str| data_set.get(key).and_then(|list| list.as_array()).map_or(0, Vec::len);
        let name = data_set.get("name").and_then(|name| name.as_str()).unwrap_or_default();
        if count("missing") > 0 {
            warnings.push(format!("{} pictures of {name} are missing (see manifest.json).", count("missing")));
        }
        if count("without_references") > 0 {
            let left = count("without_references");
            warnings.push(format!("{left} pictures of {name} have no reference caption and are left out."));
        }
    }
    let least = run.results.iter().map(|row| row.n).min().unwrap_or(0);
    if least < ENOUGH {
        warnings.push(format!("The sample is small ({least} pictures): take the order of the models as a hint."));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Value, Values};

    fn meteor_of(value: Option<f64>, half: Option<f64>) -> Values {
        let end = |way: f64| value.zip(half).map(|(value, half)| value + way * half);
        let mut values = Values::default();
        values.set(DECIDING, Value { value, low: end(-1.0), high: end(1.0) });
        values
    }

    fn run(values: &[(&str, Option<f64>, Option<f64>)], p_values: &[(&str, &str, f64)]) -> CaptionRun {
        let result = |(model, meteor, half): &(&str, Option<f64>, Option<f64>)| CaptionResult {
            model: model.to_string(),
            dataset: "d".into(),
            values: meteor_of(*meteor, *half),
            n: 500,
            ..CaptionResult::default()
        };
        let compared = |(first, second, p_value): &(&str, &str, f64)| Comparison {
            dataset: "d".into(),
            metric: "meteor".into(),
            first: first.to_string(),
            second: second.to_string(),
            p_value: *p_value,
            ..Comparison::default()
        };
        CaptionRun {
            results: values.iter().map(result).collect(),
            comparisons: p_values.iter().map(compared).collect(),
            ..CaptionRun::default()
        }
    }

    #[test]
    fn a_tie_is_no_win_and_chance_is_said() {
        let said = |values: &[_], p_values: &[_]| sentences(&run(values, p_values)).concat();
        let (zero, low, high) = (Some(0.0), Some(0.2), Some(0.3));
        assert_eq!(
            said(&[("a", zero, zero), ("b", zero, zero), ("c", zero, zero)], &[("a", "b", 1.0)]),
            "On d all models have a METEOR of 0: no caption shares a word with its references."
        );
        assert!(said(&[("a", zero, zero), ("b", zero, zero)], &[]).starts_with("On d both models have a METEOR of 0"));
        assert!(said(&[("a", zero, None)], &[]).starts_with("On d a has a METEOR of 0"));
        assert_eq!(
            said(&[("a", low, None), ("b", high, None), ("c", high, None)], &[("b", "c", 1.0)]),
            "On d b and c share the highest METEOR, 0.300."
        );
        let two = [("a", low, Some(0.04)), ("b", high, Some(0.04))];
        assert_eq!(
            said(&two, &[("a", "b", 0.0)]),
            "On d b has the highest METEOR, 0.300 (95 % interval 0.260 to 0.340), before a with 0.200 (paired bootstrap p < 0.001)."
        );
        assert!(
            said(&two, &[("a", "b", 0.3)])
                .ends_with("but this run does not tell it from a with 0.200 (paired bootstrap p = 0.300).")
        );
        assert!(said(&two, &[]).ends_with("before a with 0.200 (their intervals do not overlap)."));
        let wide = [("a", low, Some(0.06)), ("b", high, Some(0.06))];
        assert!(said(&wide, &[]).ends_with("does not tell it from a with 0.200 (their intervals overlap)."));
        let bare = [("a", low, None), ("b", high, None)];
        assert!(said(&bare, &[]).ends_with("(without intervals the difference cannot be judged)."));
        let three = [("a", low, None), ("b", high, None), ("c", Some(0.1), None)];
        assert!(said(&three, &[("a", "b", 0.2), ("c", "b", 0.1)]).ends_with("does not tell it from a and c."));
        assert!(
            said(&three, &[("a", "b", 0.01), ("b", "c", 0.1)])
                .ends_with("from c with 0.100 (paired bootstrap p = 0.100).")
        );
        assert!(said(&[("a", None, None), ("b", Some(f64::NAN), None)], &[]).contains("nothing was scored"));
    }

    #[test]
    fn without_references_the_metric_that_needs_none_decides() {
        let mut run = run(&[("a", None, None), ("b", None, None)], &[]);
        for (row, value) in run.results.iter_mut().zip([0.7, 0.9]) {
            row.values
                .set("clip_score", Value { value: Some(value), low: Some(value - 0.04), high: Some(value + 0.04) });
        }
        assert_eq!(
            sentences(&run).concat(),
            "On d b has the highest CLIPScore, 0.900 (95 % interval 0.860 to 0.940), before a with 0.700 (their intervals \
             do not overlap)."
        );
        // Where there are references METEOR decides.
        run.results[0].values.set("meteor", Value { value: Some(0.3), low: None, high: None });
        assert_eq!(sentences(&run).concat(), "On d a reaches a METEOR of 0.300.");
    }
}
