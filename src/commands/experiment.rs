//! `toolkit experiment`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::print::{self, note, say};
use super::team::team;
use crate::cli::{ExperimentArgs, ExperimentOptions, Format, Global};
use crate::error::{Outcome, usage};
use crate::experiment::forecast::Forecast;
use crate::experiment::keys::KeyRow;
use crate::experiment::models::{OnThisMachine, Role};
use crate::experiment::shard::Shard;
use crate::experiment::{self, Asked, Conclusion, Planned, Progress};
use crate::report;
use crate::runtime::{Runtime, RuntimeOptions};

pub fn run(args: ExperimentArgs, global: &Global) -> Result<Outcome> {
    if args.list {
        return list();
    }
    if args.keys {
        return keys(args.format);
    }
    let args = ExperimentArgs { shard: args.shard.map(shard).transpose()?, ..args };
    // A dry run downloads nothing.
    let models = machine(global, global.offline || args.dry_run)?;
    let file = experiment::find(args.experiment.as_deref().unwrap_or_default())?;
    let asked = asked(&args.options, args.shard.as_deref());
    let planned = experiment::kind(&file)?.load(&file, &asked)?;
    check_precision(planned.as_ref(), global)?;
    let (name, shard) = planned.name();
    let out = out_folder(&args.options, name, shard)?;
    if args.dry_run {
        return show(&planned.forecast(&out, &models)?, args.format);
    }
    // No result: stdout has the table alone.
    if !global.quiet {
        planned.introduce(&out, &models).iter().for_each(|line| note!("{line}"));
    }
    planned.check(&models)?;
    experiment::say_on_stop(format!(
        "\nstopped; what is done is in {}; the same command goes on from there\n",
        out.display()
    ));
    let conclusion = planned.run(&out, &models, Progress::new(global.quiet))?;
    conclude(&conclusion, &out, report::render(&out))
}

/// The devices that are asked for, and the models that they find.
pub(super) fn machine(global: &Global, offline: bool) -> Result<OnThisMachine> {
    Ok(match team(global)? {
        Some((team, options)) => OnThisMachine::with_team(team, RuntimeOptions { offline, ..options })?,
        None => OnThisMachine::new(Runtime::new(RuntimeOptions { offline, ..global.into() })?),
    })
}

fn list() -> Result<Outcome> {
    for experiment in experiment::built_in()? {
        say!("{:24} {}", experiment.name, experiment.question);
    }
    Ok(Outcome::Done)
}

fn keys(format: Format) -> Result<Outcome> {
    let rows = experiment::keys::keys();
    match format {
        Format::Json => say!("{}", serde_json::to_string_pretty(&experiment::keys::schema())?),
        Format::Csv => print::table(|out| rows.iter().try_for_each(|row| out.serialize(row)))?,
        Format::Text => {
            let width = |of: fn(&KeyRow) -> usize| rows.iter().map(of).max().unwrap_or(0);
            let (keys, forms) = (width(|row| row.key.len()), 28);
            for (at, row) in rows.iter().enumerate() {
                if at == 0 || rows[at - 1].kind != row.kind {
                    say!("{}kind = {:?}", if at == 0 { "" } else { "\n" }, row.kind);
                }
                let form = match (row.required, row.default.is_empty()) {
                    (true, _) => format!("{}, required", row.form),
                    (false, false) => format!("{} = {}", row.form, row.default),
                    (false, true) => row.form.clone(),
                };
                say!("  {:keys$}  {form:forms$}  {}", row.key, row.meaning);
            }
        }
    }
    Ok(Outcome::Done)
}

fn show(forecast: &Forecast, format: Format) -> Result<Outcome> {
    match format {
        Format::Json => say!("{}", serde_json::to_string_pretty(forecast)?),
        Format::Csv => return Err(usage("--dry-run prints text or json")),
        Format::Text => forecast.lines().into_iter().try_for_each(|line| print::line(format_args!("{line}")))?,
    }
    Ok(Outcome::Done)
}

/// Refuses `--precision` of an experiment that draws nothing.
pub(super) fn check_precision(planned: &dyn Planned, global: &Global) -> Result<()> {
    let draws = planned.needs().iter().any(|needed| needed.role == Role::Generator);
    if global.precision.is_some() && !draws {
        let name = planned.name().0;
        return Err(usage(format!("--precision fp8 is for what draws with Stable Diffusion 3: {name} draws nothing")));
    }
    Ok(())
}

/// What the command line asks for of an experiment.
pub(super) fn asked<'a>(options: &'a ExperimentOptions, shard: Option<&'a str>) -> Asked<'a> {
    Asked { profile: &options.profile, sets: &options.set, limit: options.limit, shard }
}

/// `I/N` as it was given, or what Slurm says.
fn shard(asked: String) -> Result<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if asked == "auto" { Ok(Shard::from_slurm(variable)?.to_string()) } else { Ok(asked) }
}

/// `--out`, else `runs/NAME`; a shard has a folder of its own.
pub(super) fn out_folder(options: &ExperimentOptions, name: &str, shard: Option<&str>) -> Result<PathBuf> {
    if let Some(out) = &options.out {
        return Ok(out.clone());
    }
    let whole = Path::new("runs").join(name);
    Ok(shard.map(Shard::parse).transpose()?.map_or(whole.clone(), |shard| shard.folder(&whole)))
}

/// The results as a table, where the pages are, and what failed. The pages are made before anything is said: nothing
/// that a run leaves depends on who reads.
pub(super) fn conclude(conclusion: &Conclusion, out: &Path, pages: Result<Vec<PathBuf>>) -> Result<Outcome> {
    let Conclusion { table, failures, failed, count, items } = conclusion;
    for line in table {
        say!("{line}");
    }
    show_pages(out, pages)?;
    if *failed == 0 {
        return Ok(Outcome::Done);
    }
    for failure in failures {
        note!("failed: {failure}");
    }
    note!("{failed} of {count} {items} failed; the same command tries them again");
    Ok(Outcome::SomeFailed)
}

/// Says where the page of a run and its results are.
fn show_pages(out: &Path, pages: Result<Vec<PathBuf>>) -> Result<()> {
    let files = pages.context("the results are written, the plots and the page are not")?;
    for page in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "html")) {
        say!("page: {}", page.display());
    }
    say!("results: {}", out.join("results.csv").display());
    Ok(())
}
