//! `toolkit metrics`.
//!
//! SPICE is not in the list: its scene graphs come from a parser in Java.

use anyhow::Result;
use serde_json::{Value, json};

use super::print::say;
use crate::cli::{Format, Global, MetricsCommand};
use crate::error::Outcome;
use crate::metrics::{About, METRICS};

pub fn run(args: MetricsCommand, _global: &Global) -> Result<Outcome> {
    let MetricsCommand::List { format } = args;
    let abouts: Vec<&About> = METRICS.iter().map(|metric| metric.about()).collect();
    match format {
        Format::Text => say!("{}", text(&abouts)),
        Format::Json => {
            say!("{}", serde_json::to_string_pretty(&abouts.iter().map(|about| json_of(about)).collect::<Vec<_>>())?)
        }
        Format::Csv => say!("{}", csv(&abouts)?),
    }
    Ok(Outcome::Done)
}

fn better(about: &About) -> &'static str {
    if about.higher_is_better { "higher" } else { "lower" }
}

fn text(abouts: &[&About]) -> String {
    let width = |of: fn(&About) -> usize| abouts.iter().map(|about| of(about)).max().unwrap_or(0);
    let (names, compared) = (width(|about| about.name.len()), width(|about| about.compares.len()));
    let line = |about: &&About| {
        let needs = if about.needs.is_empty() { "nothing".to_string() } else { about.needs.join(", ") };
        let asked = if about.by_default { "" } else { "; where `metrics` names it" };
        let (name, compares) = (about.name, about.compares);
        format!("{name:names$}  {:6} is better  {compares:compared$}  needs {needs}{asked}", better(about))
    };
    abouts.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn json_of(about: &About) -> Value {
    json!({
        "name": about.name,
        "label": about.label,
        "compares": about.compares,
        "higher_is_better": about.higher_is_better,
        "needs": about.needs,
        "per_item": about.item,
        "interval": about.interval,
        "default": about.by_default,
    })
}

fn csv(abouts: &[&About]) -> Result<String> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([
        "name",
        "label",
        "compares",
        "higher_is_better",
        "needs",
        "per_item",
        "interval",
        "default",
    ])?;
    for about in abouts {
        let flags = [about.higher_is_better, about.interval, about.by_default].map(|flag| flag.to_string());
        let needs = about.needs.join(" ");
        let item = about.item.unwrap_or_default();
        table.write_record([about.name, about.label, about.compares, &flags[0], &needs, item, &flags[1], &flags[2]])?;
    }
    Ok(String::from_utf8(table.into_inner()?)?.trim_end().to_string())
}
