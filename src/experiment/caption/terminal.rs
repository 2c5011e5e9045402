//! What a caption run says on the terminal.

use super::clip;
use super::config::CaptionConfig;
use super::plan::{CaptionPlan, Part};
use crate::metrics::Show;
use crate::run::caption::CaptionResult;
use crate::run::shown;

/// What the run uses, in one line, and what it comes to.
pub fn introduce(
    plan: &CaptionPlan,
    config: &CaptionConfig,
    out: &str,
    (device, dtype): (String, String),
) -> Vec<String> {
    let models: Vec<String> = config.models.0.iter().map(|(_, model)| model.model.clone()).collect();
    let data_set = |part: &Part| {
        let batch = part.batch_size.map_or("automatic batches".to_string(), |size| format!("batches of {size}"));
        format!(
            "{} = {} ({}, split {}, {} of {} pictures, {batch})",
            part.name,
            part.set.file.display(),
            part.set.format,
            part.set.split,
            part.set.items.len(),
            part.found
        )
    };
    let data_sets: Vec<String> = plan.parts.iter().map(data_set).collect();
    let shard = config.shared.shard.as_ref().map(|shard| format!("; shard {shard}")).unwrap_or_default();
    let clip = clip::asked(config).next().map(|_| format!("; CLIP {}", clip::model(config))).unwrap_or_default();
    let uses = format!(
        "{} with profile {}: models {}; data sets {}{clip}{shard}; device {device}, {dtype}; out {out}",
        config.shared.name,
        config.shared.profile,
        models.join(", "),
        data_sets.join(", "),
    );
    vec![uses, format!("{} models and instructions, {} captions", plan.variants.len(), plan.len())]
}

/// The results as a table.
pub fn table(results: &[CaptionResult]) -> Vec<String> {
    let width = |of: &dyn Fn(usize) -> usize, least: usize| (0..results.len()).map(of).max().unwrap_or(0).max(least);
    let models = width(&|at| results[at].model.len(), "model".len());
    let data_sets = width(&|at| results[at].dataset.len(), "data set".len());
    let number = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.4}"));
    let metrics = shown(results, Show::Compared);
    let mut header = format!("{:data_sets$} {:models$} {:>5}", "data set", "model", "n");
    metrics.iter().for_each(|about| header += &format!(" {:>1$}", about.label, about.width));
    let mut lines = vec![format!("{header} {:>8}", "images/s")];
    for row in results {
        let mut line = format!("{:data_sets$} {:models$} {:>5}", row.dataset, row.model, row.n);
        for about in &metrics {
            line += &format!(" {:>1$}", number(row.values.value(about.name)), about.width);
        }
        let speed = row.images_per_second.map_or("-".to_string(), |speed| format!("{speed:.2}"));
        lines.push(format!("{line} {speed:>8}"));
    }
    lines
}
