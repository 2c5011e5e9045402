//! `toolkit experiment`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::print::{note, say};
use crate::axes::{captioner, generator};
use crate::cli::{ExperimentArgs, Global};
use crate::error::Outcome;
use crate::experiment::settings::Settings;
use crate::experiment::shard::Shard;
use crate::experiment::style::models::{Models, OnThisMachine};
use crate::experiment::{self, Config, Plan, Progress, Summary};
use crate::metrics::Show;
use crate::metrics::stats::Interval;
use crate::report;
use crate::run::shown;
use crate::runtime::{Runtime, wait_asleep};

/// Width of a column of intervals on the terminal.
const INTERVAL: usize = 25;

pub fn run(args: ExperimentArgs, global: &Global) -> Result<Outcome> {
    if args.list {
        return list();
    }
    let args = ExperimentArgs { shard: args.shard.map(shard).transpose()?, ..args };
    wait_asleep();
    let runtime = Runtime::new(global)?;
    let file = experiment::find(args.experiment.as_deref().unwrap_or_default())?;
    if experiment::kind_of(&file).as_deref() == Some("caption") {
        return super::experiment_captions::run(&args, global, runtime, &file);
    }
    let mut config = Config::load(&file, &args.profile, &args.set)?;
    config.narrow(args.limit, args.shard.as_deref())?;
    let out = out_folder(&args, &config.name, config.shard.as_deref())?;
    let plan = Plan::new(&config)?;
    let models = OnThisMachine::new(runtime);
    introduce(&plan, &config, &out, models.place())?;
    experiment::check(&plan, &config, &models)?;
    experiment::say_on_stop(format!(
        "\nstopped; what is done is in {}; the same command goes on from there\n",
        out.display()
    ));
    let summary = experiment::run(&plan, &config, &out, &models, Progress { quiet: global.quiet })?;
    conclude(&summary, &out, report::render(&out))
}

fn list() -> Result<Outcome> {
    for experiment in experiment::built_in()? {
        say!("{:24} {}", experiment.name, experiment.question);
    }
    Ok(Outcome::Done)
}

/// `I/N` as it was given, or what Slurm says.
fn shard(asked: String) -> Result<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if asked == "auto" { Ok(Shard::from_slurm(variable)?.to_string()) } else { Ok(asked) }
}

/// `--out`, else `runs/NAME`; a shard has a folder of its own.
pub(super) fn out_folder(args: &ExperimentArgs, name: &str, shard: Option<&str>) -> Result<PathBuf> {
    if let Some(out) = &args.out {
        return Ok(out.clone());
    }
    let mut name = name.to_string();
    if let Some(shard) = shard.map(Shard::parse).transpose()? {
        name += &format!("-shard-{}-of-{}", shard.part, shard.of);
    }
    Ok(Path::new("runs").join(name))
}

/// What the run uses, in one line, and what it comes to.
fn introduce(plan: &Plan, config: &Config, out: &Path, (device, dtype): (String, String)) -> Result<()> {
    let names = |axis| config.axes.texts(axis).collect::<Vec<_>>().join(", ");
    let shard = config.shard.as_ref().map(|shard| format!(", shard {shard}")).unwrap_or_default();
    say!(
        "{} with profile {} on {device} in {dtype}: captioner {}; generator {}; ArtFID by {}, {}, {}; photos {} ({} of {}{shard}); \
         style pictures {} ({}); out {}",
        config.name,
        config.profile,
        names(&captioner::AXIS),
        names(&generator::AXIS),
        config.inception,
        config.lpips_backbone,
        config.lpips_linear,
        config.photos.display(),
        plan.photos.len(),
        plan.photos_found,
        config.style_pictures.display(),
        plan.style_pictures.len(),
        out.display()
    );
    say!("{} strategies x {} photos = {} pictures", plan.cells.len(), plan.photos.len(), plan.len());
    Ok(())
}

/// The results as a table, and where the pages are. They are made before anything is said: nothing that a run leaves
/// depends on who reads.
pub(super) fn conclude(summary: &Summary, out: &Path, pages: Result<Vec<PathBuf>>) -> Result<Outcome> {
    let width = summary.results.iter().map(|row| row.strategy.len()).max().unwrap_or(0).max("strategy".len());
    let number = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.4}"));
    let metrics = shown(&summary.results, Show::Table);
    let mut header = format!("{:width$} {:>5}", "strategy", "n");
    for about in &metrics {
        header += &format!(" {:>1$}", about.label, about.width);
        if about.show >= Show::Compared {
            header += &format!(" {:>INTERVAL$}", "95 % interval");
        }
    }
    say!("{header}");
    for row in &summary.results {
        let mut line = format!("{:width$} {:>5}", row.strategy, row.n);
        for about in &metrics {
            line += &format!(" {:>1$}", number(row.values.value(about.name)), about.width);
            if about.show >= Show::Compared {
                let bounds = row.values.interval(about.name);
                let bounds = bounds.map_or("-".to_string(), |Interval { low, high }| format!("{low:.4} to {high:.4}"));
                line += &format!(" {bounds:>INTERVAL$}");
            }
        }
        say!("{line}");
    }
    show_pages(out, pages)?;
    if summary.failed.is_empty() {
        return Ok(Outcome::Done);
    }
    for row in &summary.failed {
        note!("failed: {} under {}: {}", row.id, row.strategy, row.error);
    }
    note!("{} of {} pictures failed; the same command tries them again", summary.failed.len(), summary.pictures);
    Ok(Outcome::SomeFailed)
}

/// Says where the page of a run and its results are.
pub(super) fn show_pages(out: &Path, pages: Result<Vec<PathBuf>>) -> Result<()> {
    let files = pages.context("the results are written, the plots and the page are not")?;
    for page in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "html")) {
        say!("page: {}", page.display());
    }
    say!("results: {}", out.join("results.csv").display());
    Ok(())
}
