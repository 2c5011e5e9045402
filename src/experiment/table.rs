//! The kinds of experiments, and each of them without its types: from a file to a finished run.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::caption::Captioning;
use super::forecast::{Forecast, forecast};
use super::kind::{Failure, Item, Kind, Summary};
use super::library::kind_of;
use super::merge::merge_with;
use super::models::{Captioners, Needed, OnThisMachine};
use super::progress::Progress;
use super::run::{check, run};
use super::serve::{Run, serve};
use super::settings::Settings;
use super::shard::Shard;
use super::standing::{Standing, standing};
use super::style::StyleTransfer;
use crate::error::{nearest, usage};
use crate::workers::Desk;

/// Every kind. A file that names none is taken for one of the first, whose reader says what is missing.
pub static KINDS: [&dyn AnyKind; 2] = [&StyleTransfer, &Captioning];

/// What is asked for on the command line, beside the experiment.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    pub profile: &'a str,
    /// `KEY=VALUE` each.
    pub sets: &'a [String],
    pub limit: Option<usize>,
    pub shard: Option<&'a str>,
}

/// Completes a run folder that lies elsewhere than it will be.
pub type Complete<'a> = &'a mut dyn FnMut(&Path) -> Result<()>;

/// A kind of experiment, whichever it is.
pub trait AnyKind: Sync {
    /// What the key `kind` says.
    fn name(&self) -> &'static str;

    /// A built-in experiment of this kind.
    fn example(&self) -> &'static str;

    /// What the keys of its resolved configurations are, as a JSON Schema.
    fn schema(&self) -> &'static serde_json::Value;

    /// Reads an experiment file and lays out the run.
    fn load(&self, file: &Path, asked: &Asked) -> Result<Box<dyn Planned>>;

    /// Serves a run of this kind as a worker.
    fn serve(&self, run: &Run, models: &OnThisMachine, desk: &mut Desk) -> Result<()>;

    /// See [`merge_with`].
    fn merge(&self, shards: &[PathBuf], out: &Path, complete: Complete) -> Result<Conclusion>;
}

/// A run that is laid out.
pub trait Planned {
    /// Its name, and its shard as `I/N`.
    fn name(&self) -> (&str, Option<&str>);

    /// What it uses and what it comes to, as lines.
    fn introduce(&self, out: &Path, models: &OnThisMachine) -> Vec<String>;

    /// The models that it needs.
    fn needs(&self) -> Vec<Needed>;

    /// What can be known to be wrong before any model is loaded.
    fn check(&self, models: &OnThisMachine) -> Result<()>;

    /// What the run would do in this folder.
    fn forecast(&self, out: &Path, models: &OnThisMachine) -> Result<Forecast>;

    /// Runs or continues it.
    fn run(&self, out: &Path, models: &OnThisMachine, progress: Progress) -> Result<Conclusion>;

    /// How far it is in a folder, or how far a shard of it is.
    fn standing(&self, dir: &Path, shard: Option<Shard>) -> Result<Standing>;

    /// Its configuration as a run folder holds it.
    fn to_toml(&self) -> Result<String>;
}

/// What a run came to, as lines for the terminal.
#[derive(Debug)]
pub struct Conclusion {
    /// The results.
    pub table: Vec<String>,
    /// Which items failed, and why; those that failed alike in one line.
    pub failures: Vec<String>,
    /// Items that failed.
    pub failed: usize,
    /// Items.
    pub count: usize,
    /// What they are called.
    pub items: &'static str,
}

/// The kind of an experiment file, or of a run folder's `config.toml`.
pub fn kind(file: &Path) -> Result<&'static dyn AnyKind> {
    let Some(name) = kind_of(file) else { return Ok(KINDS[0]) };
    KINDS.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let known = KINDS.map(AnyKind::name);
        let near = nearest(&name, known);
        usage(format!("{}: kind = {name:?} is not known{near} (known: {})", file.display(), known.join(", ")))
    })
}

/// The kind of this name.
pub fn named(name: &str) -> Option<&'static dyn AnyKind> {
    KINDS.into_iter().find(|kind| kind.name() == name)
}

impl<K: Kind + Sync> AnyKind for K {
    fn name(&self) -> &'static str {
        K::Config::KIND
    }

    fn example(&self) -> &'static str {
        K::BUILT_IN
    }

    fn schema(&self) -> &'static serde_json::Value {
        K::Config::schema()
    }

    fn load(&self, file: &Path, asked: &Asked) -> Result<Box<dyn Planned>> {
        let mut config = K::Config::load(file, asked.profile, asked.sets)?;
        config.narrow(asked.limit, asked.shard)?;
        let plan = K::plan(&config)?;
        Ok(Box::new(Loaded::<K> { config, plan }))
    }

    fn serve(&self, run: &Run, models: &OnThisMachine, desk: &mut Desk) -> Result<()> {
        serve::<K>(run, K::on(models), desk)
    }

    fn merge(&self, shards: &[PathBuf], out: &Path, complete: Complete) -> Result<Conclusion> {
        merge_with::<K>(shards, out, complete).map(conclusion)
    }
}

struct Loaded<K: Kind> {
    config: K::Config,
    plan: K::Plan,
}

impl<K: Kind> Planned for Loaded<K> {
    fn name(&self) -> (&str, Option<&str>) {
        let shared = self.config.shared();
        (&shared.name, shared.shard.as_deref())
    }

    fn introduce(&self, out: &Path, models: &OnThisMachine) -> Vec<String> {
        K::introduce(&self.plan, &self.config, &out.display().to_string(), models.place())
    }

    fn needs(&self) -> Vec<Needed> {
        K::needs(&self.config)
    }

    fn check(&self, models: &OnThisMachine) -> Result<()> {
        check::<K>(&self.plan, &self.config, K::on(models))
    }

    fn forecast(&self, out: &Path, models: &OnThisMachine) -> Result<Forecast> {
        forecast::<K>(&self.plan, &self.config, out, models)
    }

    fn run(&self, out: &Path, models: &OnThisMachine, progress: Progress) -> Result<Conclusion> {
        run::<K>(&self.plan, &self.config, out, K::on(models), progress).map(conclusion)
    }

    fn standing(&self, dir: &Path, shard: Option<Shard>) -> Result<Standing> {
        let mut config = self.config.clone();
        config.narrow(None, shard.map(|shard| shard.to_string()).as_deref())?;
        standing(dir, &config)
    }

    fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(&self.config)?)
    }
}

fn conclusion<K: Kind>(summary: Summary<K>) -> Conclusion {
    Conclusion {
        table: K::table(&summary.results),
        failed: summary.failed.len(),
        failures: Failure::lines(&summary.failed.iter().map(Item::failure).collect::<Vec<_>>()),
        count: summary.count,
        items: K::ITEMS,
    }
}
