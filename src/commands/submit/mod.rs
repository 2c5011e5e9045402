//! `toolkit submit`: an experiment in shards, as a Slurm job array, and the job that merges them.

mod check;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use self::check::{Checked, check};
use super::print::{note, say};
use crate::cli::{Global, SubmitArgs};
use crate::cluster::{ARRAY, Array, MERGE, Record, Scripts, check_option, log_of, ranges, slurm};
use crate::error::{Outcome, usage};
use crate::experiment::standing::{Standing, is_free};
use crate::run::guard;
use crate::run::layout::SUBMITTED;
use crate::runtime::{DtypeChoice, shell_word, write_whole};

/// What the program reads of its environment and a cluster may not hand on. Nothing in it is secret: a token goes the
/// way of Slurm's own `--export`, never into a script.
const VARIABLES: [&str; 15] = [
    "LD_LIBRARY_PATH",
    "TOOLKIT_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "HF_TOKEN_PATH",
    "HF_ENDPOINT",
    "TORCH_HOME",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
];

pub fn run(args: SubmitArgs, global: &Global) -> Result<Outcome> {
    let asked = check(&args, global)?;
    let scripts = scripts(&args, global, &asked)?;
    if asked.whole == Standing::Finished {
        say!("{} is complete and merged: {}", asked.name, asked.run.join("results.csv").display());
        return Ok(Outcome::Done);
    }
    if !is_free(&asked.run)? {
        let shown = asked.run.display();
        return Err(usage(format!("{shown} is there already: remove it, or choose another --out")));
    }
    if !args.dry_run && !slurm::is_there("sbatch") {
        bail!("sbatch is not on the PATH: submit on a machine of a Slurm cluster, or write the scripts with --dry-run");
    }
    let folder = asked.run.join(SUBMITTED);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    guard::check(&asked.run)?;
    let Some(_held) = guard::hold(&folder)? else {
        return Err(usage(format!("{}: another process is submitting this run", folder.display())));
    };
    let record = earlier(&folder, &asked)?;
    let state = State::new(&asked, &record)?;
    state.say(&asked)?;
    let submission = Submission { asked: &asked, folder: &folder, state: &state };
    submission.write(&scripts)?;
    if args.dry_run {
        submission.show()?
    } else {
        submission.submit(record)?
    }
    Ok(Outcome::Done)
}

/// What was submitted of this run; another one, or another number of shards, is wrong usage.
fn earlier(folder: &Path, asked: &Checked) -> Result<Record> {
    let Some(record) = Record::read(folder)? else {
        return Ok(Record { tasks: asked.tasks(), ..Record::default() });
    };
    if record.tasks != asked.tasks() {
        return Err(usage(format!(
            "{} was submitted in {} tasks: give --tasks {}, or choose another --out",
            asked.run.display(),
            record.tasks,
            record.tasks
        )));
    }
    Ok(record)
}

/// Where the shards are, by number.
#[derive(Debug, Default)]
struct State {
    complete: Vec<usize>,
    /// In the queue, or at work.
    waiting: Vec<usize>,
    /// Submitted before, and not in the queue any more.
    ended: Vec<usize>,
    /// All that are to be submitted.
    missing: Vec<usize>,
    /// The job arrays with tasks in the queue.
    arrays: Vec<String>,
    /// The job that merges, while it is in the queue.
    merging: Option<String>,
}

impl State {
    fn new(asked: &Checked, record: &Record) -> Result<Self> {
        let submitted = !record.arrays.is_empty() || record.merge.is_some();
        let queue = match slurm::is_there("squeue") {
            true if submitted => slurm::queue()?,
            false if submitted => {
                note!("squeue is not on the PATH: which tasks are in the queue is not known");
                Default::default()
            }
            _ => Default::default(),
        };
        let mut state = Self::default();
        for (shard, standing) in (1..).zip(&asked.shards) {
            let waits = |array: &&Array| queue.contains(&(array.job.clone(), Some(shard)));
            // A task that has written all may take a moment to leave the queue.
            if *standing == Standing::Finished {
                state.complete.push(shard);
            } else if let Some(array) = record.arrays.iter().find(waits) {
                state.waiting.push(shard);
                if !state.arrays.contains(&array.job) {
                    state.arrays.push(array.job.clone());
                }
            } else {
                state.missing.push(shard);
                if record.has(shard) {
                    state.ended.push(shard);
                }
            }
        }
        state.merging = record.merge.clone().filter(|job| queue.contains(&(job.clone(), None)));
        Ok(state)
    }

    fn say(&self, asked: &Checked) -> Result<()> {
        let of = asked.tasks();
        let shards = |numbers: &[usize]| if numbers.len() == 1 { "shard" } else { "shards" };
        if !self.complete.is_empty() {
            say!("complete: {} {} of {of}", shards(&self.complete), ranges(&self.complete));
        }
        if !self.waiting.is_empty() {
            let jobs = self.arrays.join(", ");
            say!("in the queue: {} {} of {of} (job {jobs}), left alone", shards(&self.waiting), ranges(&self.waiting));
        }
        for shard in &self.ended {
            say!("ended without finishing: shard {shard} of {of}, see {}", log_of(&asked.run, *shard).display());
        }
        Ok(())
    }

    /// A job that merges is needed, unless the one that waits does so for all that will come.
    fn needs_merge(&self) -> bool {
        !self.missing.is_empty() || self.merging.is_none()
    }
}

struct Submission<'a> {
    asked: &'a Checked,
    folder: &'a Path,
    state: &'a State,
}

impl Submission<'_> {
    fn write(&self, scripts: &Scripts) -> Result<()> {
        if !self.state.missing.is_empty() {
            self.write_file(ARRAY, &scripts.array(&self.state.missing)?)?;
        }
        if self.state.needs_merge() {
            self.write_file(MERGE, &scripts.merge()?)?;
        }
        Ok(())
    }

    fn write_file(&self, name: &str, text: &str) -> Result<()> {
        write_whole(&self.folder.join(name), |file| Ok(file.write_all(text.as_bytes())?))
    }

    /// What would be submitted, as lines for a shell.
    fn show(&self) -> Result<()> {
        let (array, merge) = (self.folder.join(ARRAY), self.folder.join(MERGE));
        let missing = !self.state.missing.is_empty();
        let line = |script: &Path, after: &[&str]| {
            let words = ["sbatch".to_string()].into_iter().chain(slurm::options(after));
            format!("{} {}", words.collect::<Vec<_>>().join(" "), shell_word(&script.to_string_lossy()))
        };
        if missing {
            say!("job array: {}", array.display());
        }
        if self.state.needs_merge() {
            say!("merge: {}", merge.display());
        }
        let mut after: Vec<&str> = self.state.arrays.iter().map(String::as_str).collect();
        if missing {
            say!("job=$({})", line(&array, &[]));
            after.push("${job%%;*}");
        }
        if self.state.needs_merge() {
            say!("{}", line(&merge, &after));
        }
        Ok(())
    }

    fn submit(&self, mut record: Record) -> Result<()> {
        let Self { asked, folder, state } = self;
        let mut after = state.arrays.clone();
        self.write_file("config.toml", &asked.config)?;
        if !state.missing.is_empty() {
            // It would begin before the new tasks have ended.
            if let Some(job) = &state.merging
                && let Err(error) = slurm::cancel(job)
            {
                note!("job {job}, which would merge too early, is still there: {error:#}");
            }
            let job = slurm::submit(&folder.join(ARRAY), &[])?;
            record.arrays.push(Array { job: job.clone(), shards: state.missing.clone() });
            record.write(folder)?;
            let logs = folder.join("shard-*.log");
            say!(
                "submitted: job {job}, tasks {} of {}; logs {}",
                ranges(&state.missing),
                asked.tasks(),
                logs.display()
            );
            after.push(job);
        }
        let log = folder.join("merge.log");
        if let Some(job) = state.merging.as_ref().filter(|_| !state.needs_merge()) {
            say!("in the queue: job {job}, which merges into {}; log {}", asked.run.display(), log.display());
            return Ok(());
        }
        let job = slurm::submit(&folder.join(MERGE), &after.iter().map(String::as_str).collect::<Vec<_>>())?;
        record.merge = Some(job.clone());
        record.write(folder)?;
        say!(
            "submitted: job {job}, which merges into {} when all have ended; log {}",
            asked.run.display(),
            log.display()
        );
        Ok(())
    }
}

/// What the scripts are made of.
fn scripts(args: &SubmitArgs, global: &Global, asked: &Checked) -> Result<Scripts> {
    let given = |key: &str, value: &Option<String>| value.as_ref().map(|value| format!("{key}={value}"));
    let mut options: Vec<String> =
        [given("partition", &args.partition), given("time", &args.time)].into_iter().flatten().collect();
    for option in &args.sbatch {
        options.push(check_option(option)?);
    }
    let program = std::env::current_exe().context("the program does not know where it lies")?;
    let mut start = vec![text(program)?];
    start.extend(global_options(global));
    let chosen = &args.options;
    let mut experiment = start.clone();
    experiment.extend(["experiment".to_string(), asked.experiment.clone()]);
    experiment.extend(["--profile".to_string(), chosen.profile.clone()]);
    experiment.extend(chosen.limit.iter().flat_map(|limit| ["--limit".to_string(), limit.to_string()]));
    experiment.extend(chosen.set.iter().flat_map(|set| ["--set".to_string(), set.clone()]));
    let scripts = Scripts {
        name: asked.name.clone(),
        run: text(asked.run.clone())?,
        tasks: asked.tasks(),
        working_folder: text(std::env::current_dir().context("where am I?")?)?,
        environment: environment()?,
        experiment,
        merge: start.into_iter().chain(["merge".to_string()]).collect(),
        options,
        array_options: given("gpus-per-task", &args.gpus_per_task).into_iter().collect(),
    };
    // What cannot be written is said before anything is.
    scripts.array(&[1])?;
    Ok(scripts)
}

/// A path as the text of a script.
fn text(path: PathBuf) -> Result<String> {
    path.into_os_string()
        .into_string()
        .map_err(|path| usage(format!("{}: a script cannot name it, for it is not UTF-8", Path::new(&path).display())))
}

/// The options that every command takes, as they were given.
fn global_options(global: &Global) -> Vec<String> {
    let Global { device, dtype, precision, threads, memory_limit, offline, quiet, verbose } = global;
    let mut words = Vec::new();
    let mut pair = |name: &str, value: Option<String>| words.extend(value.map(|value| format!("--{name}={value}")));
    pair("device", (device != "auto").then(|| device.clone()));
    let dtype = (*dtype != DtypeChoice::Auto).then(|| dtype.to_possible_value()).flatten();
    pair("dtype", dtype.map(|value| value.get_name().to_string()));
    let precision = precision.and_then(|precision| precision.to_possible_value());
    pair("precision", precision.map(|value| value.get_name().to_string()));
    pair("threads", threads.map(|count| count.to_string()));
    pair("memory-limit", memory_limit.map(|gib| gib.to_string()));
    let flags = [("--offline", *offline as u8), ("--quiet", *quiet as u8), ("--verbose", *verbose)];
    words.extend(flags.iter().flat_map(|(flag, times)| (0..*times).map(move |_| flag.to_string())));
    words
}

/// [`VARIABLES`] as they are now.
fn environment() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for name in VARIABLES {
        match std::env::var(name) {
            // An address may have a password in it.
            Ok(value) if value.contains("://") && value.contains('@') => {}
            Ok(value) => found.push((name.to_string(), value)),
            Err(std::env::VarError::NotPresent) => {}
            Err(error) => return Err(usage(format!("{name}: {error}"))),
        }
    }
    Ok(found)
}
