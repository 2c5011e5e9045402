//! What a style run says on the terminal.

use std::collections::BTreeSet;

use super::config::Config;
use super::plan::Plan;
use crate::axes::{captioner, generator};
use crate::metrics::Show;
use crate::metrics::stats::Interval;
use crate::run::shown;
use crate::run::style::ResultRow;

/// Width of a column of intervals.
const INTERVAL: usize = 25;

/// What the run uses, in one line, and what it comes to.
pub fn introduce(plan: &Plan, config: &Config, out: &str, (device, dtype): (String, String)) -> Vec<String> {
    let names = |axis| config.axes.texts(axis).collect::<Vec<_>>().join(", ");
    let embedders: BTreeSet<&str> = config.embeddings().map(|(_, of)| config.network(of.network)).collect();
    // One folder may hold several of them.
    let mut networks = vec![config.inception.as_str(), &config.lpips_backbone, &config.lpips_linear];
    networks.extend(embedders);
    networks.dedup();
    let shard = config.shared.shard.as_ref().map(|shard| format!(", shard {shard}")).unwrap_or_default();
    let fit = config.fit.map(|fit| format!(", fit {}", fit.name())).unwrap_or_default();
    let uses = format!(
        "{} with profile {} on {device} in {dtype}: captioner {}; generator {}; metrics by {}; photos {} ({} of {}{shard}{fit}); \
         style pictures {} ({}); out {out}",
        config.shared.name,
        config.shared.profile,
        names(&captioner::AXIS),
        names(&generator::AXIS),
        networks.join(", "),
        config.photos.display(),
        plan.photos.len(),
        plan.photos_found,
        config.style_pictures.display(),
        plan.style_pictures.len(),
    );
    vec![uses, format!("{} strategies x {} photos = {} pictures", plan.cells.len(), plan.photos.len(), plan.len())]
}

/// The results as a table. A line holds the interval of the headline alone: results.csv has those of all.
pub fn table(results: &[ResultRow]) -> Vec<String> {
    let width = results.iter().map(|row| row.strategy.len()).max().unwrap_or(0).max("strategy".len());
    let number = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.4}"));
    let metrics = shown(results, Show::Table);
    let mut header = format!("{:width$} {:>5}", "strategy", "n");
    for about in &metrics {
        header += &format!(" {:>1$}", about.label, about.width);
        if about.show >= Show::Headline {
            header += &format!(" {:>INTERVAL$}", "95 % interval");
        }
    }
    let mut lines = vec![header];
    for row in results {
        let mut line = format!("{:width$} {:>5}", row.strategy, row.n);
        for about in &metrics {
            line += &format!(" {:>1$}", number(row.values.value(about.name)), about.width);
            if about.show >= Show::Headline {
                let bounds = row.values.interval(about.name);
                let bounds = bounds.map_or("-".to_string(), |Interval { low, high }| format!("{low:.4} to {high:.4}"));
                line += &format!(" {bounds:>INTERVAL$}");
            }
        }
        lines.push(line);
    }
    lines
}
