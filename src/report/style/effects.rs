//! What each value of an axis does, from `effects.csv`: the answer of a run of many strategies.

use serde::Serialize;

use super::{DECIDING, StyleRun};
use crate::metrics::stats::holm;
use crate::metrics::{About, Show};
use crate::report::number::{equal, short};
use crate::run::compared::CERTAIN;
use crate::run::shown;
use crate::run::style::EffectRow;

/// With more strategies than this the effects come first on the page, not the strategies.
const MOST_STRATEGIES: usize = 6;

/// The table of the page.
#[derive(Debug, Default, Serialize)]
pub struct EffectTable {
    /// Metrics.
    pub columns: Vec<&'static str>,
    pub rows: Vec<AxisEffect>,
}

/// A value of an axis.
#[derive(Debug, Serialize)]
pub struct AxisEffect {
    axis: String,
    value: String,
    /// Whether another axis begins here.
    is_first: bool,
    n: usize,
    cells: Vec<EffectCell>,
}

/// Its mean by a metric. Empty where there is none.
#[derive(Debug, Default, Serialize)]
pub struct EffectCell {
    mean: String,
    interval: String,
    p: String,
    is_certain: bool,
}

/// Whether the page leads with the effects.
pub fn lead(run: &StyleRun) -> bool {
    run.results.len() > MOST_STRATEGIES && !run.effects.is_empty()
}

/// The axes, each with its values, in the order of effects.csv.
pub fn table(run: &StyleRun) -> EffectTable {
    let has = |about: &&'static About| run.effects.iter().any(|row| row.metric == about.name);
    let metrics: Vec<&'static About> = shown(&run.results, Show::Table).into_iter().filter(has).collect();
    let mut rows: Vec<AxisEffect> = Vec::new();
    for effect in &run.effects {
        if rows.iter().any(|row| row.axis == effect.axis && row.value == effect.value) {
            continue;
        }
        let find = |about: &&'static About| {
            let same = |row: &&EffectRow| (&row.axis, &row.value) == (&effect.axis, &effect.value);
            run.effects
                .iter()
                .filter(same)
                .find(|row| row.metric == about.name)
                .map_or_else(EffectCell::default, |row| cell(run, row))
        };
        rows.push(AxisEffect {
            is_first: rows.last().is_none_or(|last| last.axis != effect.axis),
            axis: effect.axis.clone(),
            value: effect.value.clone(),
            n: effect.n,
            cells: metrics.iter().map(find).collect(),
        });
    }
    EffectTable { columns: metrics.iter().map(|about| about.label).collect(), rows }
}

/// The probability of a row after Holm's correction over all axes and values of its metric. Of two values each differs
/// from the other by one and the same test.
pub fn corrected(run: &StyleRun, row: &EffectRow) -> f64 {
    let of_metric: Vec<&EffectRow> = run.effects.iter().filter(|other| other.metric == row.metric).collect();
    let values = |axis: &str| of_metric.iter().filter(|other| other.axis == axis).count();
    let is_second =
        |at: usize| values(&of_metric[at].axis) == 2 && of_metric[..at].iter().any(|o| o.axis == of_metric[at].axis);
    let tests: Vec<usize> = (0..of_metric.len()).filter(|at| !is_second(*at)).collect();
    let p_values: Vec<f64> = tests.iter().map(|at| of_metric[*at].p_value).collect();
    let holm = holm(&p_values);
    let own = |at: &usize| {
        let test = of_metric[*at];
        test.axis == row.axis && (test.value == row.value || values(&row.axis) == 2)
    };
    tests.iter().position(own).map_or(row.p_value, |at| holm[at])
}

fn cell(run: &StyleRun, row: &EffectRow) -> EffectCell {
    let p = corrected(run, row);
    EffectCell {
        mean: short(Some(row.mean)),
        interval: format!("{} to {}", short(Some(row.low)), short(Some(row.high))),
        p: format!("p {}", equal(p)),
        is_certain: p < CERTAIN,
    }
}

/// What the axes do to the deciding metric, the strongest first; none where nothing is known of it.
pub fn sentence(run: &StyleRun) -> Option<String> {
    let mut axes: Vec<Vec<&EffectRow>> = Vec::new();
    for row in run.effects.iter().filter(|row| row.metric == DECIDING.name && row.mean.is_finite()) {
        match axes.iter_mut().find(|axis| axis[0].axis == row.axis) {
            Some(axis) => axis.push(row),
            None => axes.push(vec![row]),
        }
    }
    axes.retain(|axis| axis.len() > 1);
    for axis in &mut axes {
        axis.sort_by(|a, b| a.mean.total_cmp(&b.mean));
    }
    let range = |axis: &[&EffectRow]| axis.last().zip(axis.first()).map_or(0.0, |(last, first)| last.mean - first.mean);
    axes.sort_by(|a, b| range(b).total_cmp(&range(a)));
    let of_axis = |axis: &Vec<&EffectRow>| {
        let (best, worst) = (axis.first()?, axis.last()?);
        let name = best.axis.replace('_', " ");
        let least = axis.iter().map(|row| corrected(run, row)).fold(1.0, f64::min);
        Some(if least < CERTAIN {
            // A value may be called as its axis is.
            let name = if best.value.starts_with(&name) { String::new() } else { format!("{name} ") };
            format!(
                "{name}{} has {} where {} has {} (p {})",
                best.value,
                short(Some(best.mean)),
                worst.value,
                short(Some(worst.mean)),
                equal(corrected(run, best))
            )
        } else {
            format!("the values of {name} are not told apart (p {})", equal(least))
        })
    };
    let said: Vec<String> = axes.iter().filter_map(of_axis).collect();
    let label = DECIDING.label;
    let lead = format!("Over all photos and the other axes, by mean {label}, the axis that does most first: ");
    (!said.is_empty()).then(|| format!("{lead}{}.", said.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(axis: &str, value: &str, mean: f64, p_value: f64) -> EffectRow {
        let metric = DECIDING.name.to_string();
        let (axis, value) = (axis.to_string(), value.to_string());
        EffectRow { axis, value, metric, n: 8, mean, low: mean - 1.0, high: mean + 1.0, p_value }
    }

    #[test]
    fn the_axis_that_does_most_comes_first() {
        let effects = vec![
            row("scheduler", "ddim", 20.0, 0.4),
            row("scheduler", "pndm", 21.0, 0.4),
            row("guidance_scale", "7.0", 12.0, 0.0001),
            row("guidance_scale", "1.5", 30.0, 0.0001),
        ];
        let run = StyleRun { effects, ..StyleRun::default() };
        assert_eq!(
            sentence(&run).unwrap(),
            "Over all photos and the other axes, by mean ArtFID, the axis that does most first: guidance scale 7.0 has 12.00 \
             where 1.5 has 30.00 (p < 0.001); the values of scheduler are not told apart (p = 0.400)."
        );
        // Two tests, of two values each; a third axis with three values has three more.
        let mut many = run.clone();
        many.effects.extend(["a", "b", "c"].map(|value| row("generator", value, 25.0, 0.02)));
        let p = |axis: &str| corrected(&many, many.effects.iter().find(|row| row.axis == axis).unwrap());
        assert_eq!((p("guidance_scale"), p("generator"), p("scheduler")), (0.0005, 0.08, 0.4));
        assert_eq!(sentence(&StyleRun::default()), None);
        assert!(!lead(&run), "few strategies come first themselves");
    }
}
