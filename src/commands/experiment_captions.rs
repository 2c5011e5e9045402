//! `toolkit experiment` of the kind `caption`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::experiment::{out_folder, show_pages};
use super::print::{note, say};
use crate::cli::{ExperimentArgs, Global};
use crate::error::Outcome;
use crate::experiment::caption::plan::Part;
use crate::experiment::caption::{self, CaptionConfig, CaptionPlan, CaptionSummary, Captioners};
use crate::experiment::settings::Settings;
use crate::experiment::style::models::OnThisMachine;
use crate::experiment::{Progress, say_on_stop};
use crate::metrics::Show;
use crate::report;
use crate::run::shown;
use crate::runtime::Runtime;

pub fn run(args: &ExperimentArgs, global: &Global, runtime: Runtime, file: &Path) -> Result<Outcome> {
    let mut config = CaptionConfig::load(file, &args.profile, &args.set)?;
    config.narrow(args.limit, args.shard.as_deref())?;
    let out = out_folder(args, &config.name, config.shard.as_deref())?;
    let plan = CaptionPlan::new(&config)?;
    let models = OnThisMachine::new(runtime);
    introduce(&plan, &config, &out, Captioners::place(&models))?;
    caption::check(&plan, &models)?;
    say_on_stop(format!("\nstopped; what is done is in {}; the same command goes on from there\n", out.display()));
    let summary = caption::run(&plan, &config, &out, &models, Progress { quiet: global.quiet })?;
    conclude(&summary, &out, report::render(&out))
}

/// What the run uses, in one line, and what it comes to.
fn introduce(plan: &CaptionPlan, config: &CaptionConfig, out: &Path, (device, dtype): (String, String)) -> Result<()> {
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
    let shard = config.shard.as_ref().map(|shard| format!("; shard {shard}")).unwrap_or_default();
    say!(
        "{} with profile {}: models {}; data sets {}{shard}; device {device}, {dtype}; out {}",
        config.name,
        config.profile,
        models.join(", "),
        data_sets.join(", "),
        out.display()
    );
    say!("{} models and instructions, {} captions", plan.voices.len(), plan.len());
    Ok(())
}

/// The results as a table, and where the pages are.
pub(super) fn conclude(summary: &CaptionSummary, out: &Path, pages: Result<Vec<PathBuf>>) -> Result<Outcome> {
    let width =
        |of: &dyn Fn(usize) -> usize, least: usize| (0..summary.results.len()).map(of).max().unwrap_or(0).max(least);
    let models = width(&|at| summary.results[at].model.len(), "model".len());
    let data_sets = width(&|at| summary.results[at].dataset.len(), "data set".len());
    let number = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.4}"));
    let metrics = shown(&summary.results, Show::Compared);
    let mut header = format!("{:data_sets$} {:models$} {:>5}", "data set", "model", "n");
    metrics.iter().for_each(|about| header += &format!(" {:>1$}", about.label, about.width));
    say!("{header} {:>8}", "images/s");
    for row in &summary.results {
        let mut line = format!("{:data_sets$} {:models$} {:>5}", row.dataset, row.model, row.n);
        for about in &metrics {
            line += &format!(" {:>1$}", number(row.values.value(about.name)), about.width);
        }
        let speed = row.images_per_second.map_or("-".to_string(), |speed| format!("{speed:.2}"));
        say!("{line} {speed:>8}");
    }
    show_pages(out, pages)?;
    if summary.failed.is_empty() {
        return Ok(Outcome::Done);
    }
    for row in &summary.failed {
        note!("failed: {} of {} by {}: {}", row.id, row.dataset, row.model, row.error);
    }
    note!("{} of {} captions failed; the same command tries them again", summary.failed.len(), summary.captions);
    Ok(Outcome::SomeFailed)
}
