//! What is known of a run before it is submitted: that it could begin, and how far it and its shards are.

use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result};

use super::super::experiment::{asked, check_precision, out_folder};
use super::super::print::note;
use crate::cli::{Global, SubmitArgs};
use crate::error::{UsageError, usage};
use crate::experiment::models::OnThisMachine;
use crate::experiment::shard::Shard;
use crate::experiment::standing::Standing;
use crate::experiment::{self, Planned};
use crate::run::layout::SUBMITTED;
use crate::runtime::{Runtime, RuntimeOptions, one_line};

/// A run that could begin.
#[derive(Debug)]
pub struct Checked {
    /// The experiment as its shards name it: a built-in one, or a file by its absolute path.
    pub experiment: String,
    pub name: String,
    /// The run folder, absolute.
    pub run: PathBuf,
    /// How far the run folder itself is.
    pub whole: Standing,
    /// How far the shards are, from the first.
    pub shards: Vec<Standing>,
    /// The configuration as it is written.
    pub config: String,
}

impl Checked {
    pub fn tasks(&self) -> usize {
        self.shards.len()
    }
}

/// Checks all that `experiment` checks before it loads models, and that every shard has something to do. Models are
/// found or downloaded here, once, and not by all shards at the same time; a dry run downloads nothing, and says what is
/// missing.
///
/// # Errors
/// Wrong usage, as of `experiment`; folders that hold another run.
pub fn check(args: &SubmitArgs, global: &Global) -> Result<Checked> {
    let of = args.tasks;
    if of == 0 {
        return Err(usage("--tasks must be at least 1"));
    }
    check_device(&global.device)?;
    // Where tasks are submitted there need not be a GPU.
    let offline = global.offline || args.dry_run;
    let options = RuntimeOptions { device: "cpu".to_string(), memory_limit: None, offline, ..global.into() };
    let models = OnThisMachine::new(Runtime::new(options)?);
    let file = experiment::find(&args.experiment)?;
    let kind = experiment::kind(&file)?;
    let planned = kind.load(&file, &asked(&args.options, None))?;
    check_precision(planned.as_ref(), global)?;
    if let (_, Some(shard)) = planned.name() {
        return Err(usage(format!("shard = {shard:?}: submit itself makes shards of the run, so leave it out")));
    }
    // Where the last one has something to do, all have.
    let last = Shard { part: of, of }.to_string();
    let last = kind.load(&file, &asked(&args.options, Some(&last)));
    last.map_err(|error| usage(format!("--tasks {of}: {error:#}")))?;
    found(args, planned.check(&models))?;
    look(args, planned.as_ref())
}

/// Looks how far the folders of a run are.
fn look(args: &SubmitArgs, planned: &dyn Planned) -> Result<Checked> {
    let (of, name) = (args.tasks, planned.name().0.to_string());
    let run = out_folder(&args.options, &name, None)?;
    let run = absolute(&run).with_context(|| format!("where is {}?", run.display()))?;
    // What waits in the queue may have no folder yet.
    planned.standing(&run.join(SUBMITTED), None)?;
    let shards = (1..=of).map(|part| Shard { part, of });
    let shards = shards.map(|shard| planned.standing(&shard.folder(&run), Some(shard))).collect::<Result<_>>()?;
    let whole = planned.standing(&run, None)?;
    let experiment = absolute_file(&args.experiment)?;
    Ok(Checked { experiment, name, run, whole, shards, config: planned.to_toml()? })
}

/// What a check found; a model that is missing does not end a dry run.
fn found(args: &SubmitArgs, checked: Result<()>) -> Result<()> {
    match checked {
        Err(error) if args.dry_run && !error.is::<UsageError>() => note!("{}", one_line(&error)),
        other => return other,
    }
    Ok(())
}

fn check_device(device: &str) -> Result<()> {
    match device.split([':', ',']).next() {
        Some("auto" | "cpu" | "cuda") => Ok(()),
        _ => Err(usage(format!("unknown device {device:?}: use auto, cpu, cuda or cuda:N"))),
    }
}

fn absolute_file(experiment: &str) -> Result<String> {
    if !Path::new(experiment).is_file() {
        return Ok(experiment.to_string());
    }
    let file = absolute(experiment).with_context(|| format!("where is {experiment}?"))?;
    super::text(file)
}
