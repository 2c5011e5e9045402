//! What a kind of experiment is: what is particular to it, between what all kinds share.
//!
//! ```text
//! settings::load ─► Kind::plan ─► introduce ─► check ─► run: lay_out ─► work (passes over batches) ─► results
//!                                                             merge: join ─────────────────────────────┘
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::extent::Extent;
use super::folder::RunFolder;
use super::manifest::Facts;
use super::models::{Captioners, Needed, OnThisMachine};
use super::progress::Progress;
use super::settings::Settings;
use crate::run::csv::Row;
use crate::run::journal::Journal;
use crate::workers::{Crew, Desk};

/// Tells of a row of an earlier run whether it still belongs to this one.
pub type Belongs<'a, Item> = Box<dyn Fn(&Item) -> bool + 'a>;

/// The stage of a run in which its results are computed from its rows.
pub const SCORING: &str = "scoring";

/// A kind of experiment.
pub trait Kind: Sized + 'static {
    /// What its items are called.
    const ITEMS: &'static str;
    /// A built-in experiment of this kind.
    const BUILT_IN: &'static str;
    /// The folders of a run whose files a merge takes over as they are.
    const FOLDERS: &'static [&'static str];

    type Config: Settings;
    /// What is to be done in a run.
    type Plan;
    /// A row of `items.csv`.
    type Item: Item;
    /// A row of `results.csv`.
    type Result: Row + Clone;
    type Models: Captioners + ?Sized;
    /// What a run keeps beside its rows, and needs for the results.
    type Kept;

    /// Looks at the pictures' folders and lays out the run.
    fn plan(config: &Self::Config) -> Result<Self::Plan>;

    /// How many items that are.
    fn items(plan: &Self::Plan) -> usize;

    /// What the run uses in one line, and what it comes to in another. `place` is device and number type.
    fn introduce(plan: &Self::Plan, config: &Self::Config, out: &str, place: (String, String)) -> Vec<String>;

    /// Looks at the headers of the pictures: what fails alone is only said.
    fn probe(plan: &Self::Plan, config: &Self::Config) -> Result<()>;

    /// The models of this machine, as far as this kind knows them.
    fn on(machine: &OnThisMachine) -> &Self::Models;

    /// What a run goes through, in this order, by the labels of its bars; the last is [`SCORING`].
    fn stages(config: &Self::Config) -> &'static [&'static str];

    /// The models that a run needs.
    fn needs(config: &Self::Config) -> Vec<Needed>;

    /// What else can be known to be wrong before any model is loaded; all of [`Self::needs`] are there by then.
    fn check(plan: &Self::Plan, config: &Self::Config, models: &Self::Models) -> Result<()>;

    /// What a run comes to, as far as that is known before it begins; models may be missing.
    fn extent(plan: &Self::Plan, config: &Self::Config, models: &Self::Models) -> Extent;

    /// What the manifest says of this kind alone.
    fn facts(plan: &Self::Plan, config: &Self::Config, models: &Self::Models) -> Facts;

    /// Makes the folders of a run, and opens what it keeps beside its rows.
    fn lay_out(folder: &RunFolder, plan: &Self::Plan, config: &Self::Config) -> Result<Self::Kept>;

    /// Tells of rows of an earlier run that are done whether they still belong to this one, with all their files.
    fn belongs<'a>(folder: &'a RunFolder, plan: &'a Self::Plan, kept: &'a Self::Kept) -> Belongs<'a, Self::Item>;

    /// What tells one plan from another: workers lay it out again, and must find the same.
    fn fingerprint(plan: &Self::Plan) -> Vec<String>;

    /// Computes, as a worker, what [`Self::work`] in the parent asks for.
    fn serve(inputs: Inputs<Self>, desk: &mut Desk) -> Result<()>;

    /// Does what is not done yet, in passes; gives the new rows, which are in the journal by then.
    fn work(work: &Work<Self>, journal: Journal<Self::Item>, kept: &mut Self::Kept) -> Result<Vec<Self::Item>>;

    /// Measures of all rows what their own passes did not: values that `metrics` asks for, perhaps of a finished run.
    fn measure(_work: &Work<Self>, _rows: &mut [Self::Item]) -> Result<()> {
        Ok(())
    }

    /// Puts the rows in order, completes them, and computes the results; writes the tables that only this kind has.
    fn results(
        folder: &RunFolder,
        config: &Self::Config,
        kept: &Self::Kept,
        rows: &mut Vec<Self::Item>,
    ) -> Result<Vec<Self::Result>>;

    /// Writes what the parts of a run keep beside their rows into one folder; their [`Self::FOLDERS`] are there already.
    fn join(folder: &RunFolder, config: &Self::Config, parts: &[Part<Self>]) -> Result<Self::Kept>;

    /// The facts of several parts as those of the whole; `first` are those of the first.
    fn join_facts(first: Facts, all: &[&Facts]) -> Facts;

    /// The results as lines for the terminal.
    fn table(results: &[Self::Result]) -> Vec<String>;
}

/// A row of `items.csv`.
pub trait Item: Row + Clone {
    /// What tells it from all others of the run.
    type Key: Ord;

    fn key(&self) -> Self::Key;

    fn is_done(&self) -> bool;

    /// Which one failed, and why.
    fn failure(&self) -> Failure;

    /// The same where it is the first of all that failed.
    fn every_failure(&self) -> String;
}

/// An item that failed, so that those that failed alike can be said in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The photo, or the picture of a data set.
    pub thing: String,
    /// `under` a strategy, `by` a model.
    pub way: &'static str,
    pub name: String,
    pub error: String,
}

impl Failure {
    /// A line for each thing and reason, in the order in which they come first, with all names that it failed under.
    pub fn lines(failures: &[Self]) -> Vec<String> {
        let mut alike: Vec<(&Self, Vec<&str>)> = Vec::new();
        for failure in failures {
            let is =
                |(first, _): &&mut (&Self, Vec<&str>)| first.thing == failure.thing && first.error == failure.error;
            match alike.iter_mut().find(is) {
                Some((_, names)) => names.push(&failure.name),
                None => alike.push((failure, vec![&failure.name])),
            }
        }
        let line = |(Self { thing, way, error, .. }, names): (&Self, Vec<&str>)| {
            let names = match names.as_slice() {
                [most @ .., last] if !most.is_empty() && most.len() < MOST_NAMES => {
                    format!("{} and {last}", most.join(", "))
                }
                [first, rest @ ..] if !rest.is_empty() => format!("{first} and {} more", rest.len()),
                names => names.concat(),
            };
            format!("{thing} {way} {names}: {error}")
        };
        alike.into_iter().map(line).collect()
    }
}

/// In a line that says what failed.
const MOST_NAMES: usize = 5;

/// The key of a kind's items.
pub type Key<K> = <<K as Kind>::Item as Item>::Key;

/// What the passes of a run need.
pub struct Work<'a, K: Kind> {
    pub plan: &'a K::Plan,
    pub config: &'a K::Config,
    pub folder: &'a RunFolder,
    pub models: &'a K::Models,
    pub progress: Progress,
    /// The items that are done.
    pub done: BTreeSet<Key<K>>,
    /// The workers, where there are some.
    pub crew: RefCell<Option<Crew>>,
}

/// What is needed to compute: in the process of the run, and in its workers.
pub struct Inputs<'a, K: Kind> {
    pub plan: &'a K::Plan,
    pub config: &'a K::Config,
    /// The run folder.
    pub dir: &'a Path,
    pub models: &'a K::Models,
    /// Pictures at a time, where nothing else is said.
    pub batch_size: usize,
}

impl<K: Kind> Clone for Inputs<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Kind> Copy for Inputs<'_, K> {}

impl<'a, K: Kind> Work<'a, K> {
    pub fn inputs(&self) -> Inputs<'a, K> {
        let (config, dir) = (self.config, self.folder.dir.as_path());
        Inputs { plan: self.plan, config, dir, models: self.models, batch_size: self.batch_size() }
    }

    /// Whether anything is left to do.
    pub fn is_pending(&self) -> bool {
        self.done.len() < K::items(self.plan)
    }

    /// Pictures at a time: as the configuration says, else as suits the machine.
    pub fn batch_size(&self) -> usize {
        self.config.shared().batch_size.unwrap_or(self.models.batch_size()).max(1)
    }
}

/// A finished part of a run.
#[derive(Debug)]
pub struct Part<K: Kind> {
    pub dir: PathBuf,
    pub config: K::Config,
    pub facts: Facts,
}

/// What a run came to.
#[derive(Debug)]
pub struct Summary<K: Kind> {
    pub results: Vec<K::Result>,
    /// Rows that failed.
    pub failed: Vec<K::Item>,
    /// Rows.
    pub count: usize,
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn what_failed_alike_is_one_line() {
        let failure = |thing: &str, name: &str, error: &str| Failure {
            thing: thing.into(),
            way: "under",
            name: name.into(),
            error: error.into(),
        };
        let mut failures = vec![failure("a", "ink", "broken"), failure("b", "ink", "too long")];
        failures.extend(["oil", "pen"].map(|name| failure("a", name, "broken")));
        failures.push(failure("a", "wax", "black"));
        failures.extend((0..7).map(|at| failure("c", &at.to_string(), "broken")));
        let expected = [
            "a under ink, oil and pen: broken",
            "b under ink: too long",
            "a under wax: black",
            "c under 0 and 6 more: broken",
        ];
        assert_eq!(Failure::lines(&failures), expected);
    }
}
