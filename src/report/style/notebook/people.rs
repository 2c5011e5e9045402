//! What people said, in the notebook.

use crate::report::notebook::cells::{Cell, Output, code, markdown, plain};
use crate::report::notebook::tables::{Table, number};
use crate::report::number::short;
use crate::report::style::StyleRun;
use crate::report::style::people::{Said, said};

/// The cells; none where no one said anything.
pub fn cells(run: &StyleRun, cells: &mut Vec<Cell>) {
    let Some(said) = said(run) else { return };
    cells.push(markdown("people-title", &text(run, &said)));
    if said.ratings > 0 {
        cells.push(code("people", include_str!("people.py"), vec![Output::html(rates(run, &said))]));
    }
}

/// Whether the galleries of the notebook can follow ratings.
pub fn has_ratings(run: &StyleRun) -> bool {
    said(run).is_some_and(|said| said.ratings > 0)
}

/// The success rates, in the order of the results.
fn rates(run: &StyleRun, said: &Said) -> Table {
    let listed = run.ranking().into_iter().filter(|at| *at < run.listed);
    let row = |at: usize| {
        let of = &said.strategies[at];
        let (share, interval) = of.success?;
        let numbers = [share, interval.low, interval.high].map(|value| number(Some(value)));
        Some([run.results[at].strategy.clone(), of.rated.to_string()].into_iter().chain(numbers).collect())
    };
    let columns = ["strategy", "rated", "success", "low", "high"].map(String::from).into();
    Table { columns, rows: listed.filter_map(row).collect() }
}

/// What `toolkit report` computed of votes, agreement and metrics.
fn text(run: &StyleRun, said: &Said) -> String {
    let mut text = format!(
        "## What people say\n\n{} raters, {} ratings, {} blind votes. Success rates are computed below; the rest is what \
         `toolkit report` computes.\n",
        said.raters, said.ratings, said.votes
    );
    for of in &said.agreement {
        let kappa = short(Some(of.kappa));
        text += &format!("\nAgreement of {}: {} = {kappa} over {}.\n", of.of, of.statistic, of.n);
    }
    let strengths: Vec<(usize, f64)> =
        (0..).zip(&said.strategies).filter_map(|(at, of)| Some((at, of.strength?.0))).collect();
    if !strengths.is_empty() {
        text += "\n| strategy | votes | Bradley-Terry strength | 95 % interval |\n|---|---|---|---|\n";
        let mut order = strengths;
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (at, value) in order {
            let of = &said.strategies[at];
            let Some((_, interval)) = of.strength else { continue };
            let (low, high) = (short(Some(interval.low)), short(Some(interval.high)));
            let name = plain(&run.results[at].strategy);
            text += &format!("| {name} | {} | {} | {low} to {high} |\n", of.votes, short(Some(value)));
        }
    }
    let known = said.measures.iter().filter_map(|measure| Some((measure, measure.correlation?)));
    let lines: Vec<String> = known
        .map(|(measure, correlation)| {
            let p = measure.p_holm.map_or("–".to_string(), |p| format!("{p:.3}"));
            format!("| {} | {} | {p} | {} |\n", plain(&measure.label), short(Some(correlation.rho)), correlation.n)
        })
        .collect();
    if !lines.is_empty() {
        text += "\n| metric, turned so that more is better | Spearman's ρ with success | p (Holm) | pictures |\n|---|---|---|---|\n";
        text += &lines.concat();
    }
    text
}
