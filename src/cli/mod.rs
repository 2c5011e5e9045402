//! The command line, as clap types only. What each option does is said here once; `--help` shows it.

mod evaluate;
mod experiment;
mod generate;
mod run;
mod tools;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::evaluate::*;
pub use self::experiment::*;
pub use self::generate::*;
pub use self::run::*;
pub use self::tools::*;
use crate::error::usage;
use crate::runtime::{self, DtypeChoice};

/// Captioning and style transfer with multimodal models, on libtorch.
#[derive(Debug, Parser)]
#[command(name = "toolkit", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where models run: auto, cpu, cuda or cuda:N; experiment, caption and evaluate take several, cuda:0,2 or cuda:all,
    /// stylize and bench two for each picture
    #[arg(long, global = true, default_value = "auto", help_heading = "Global options")]
    pub device: String,
    /// Number type of the weights; auto: float32 on CPU, each model's own default on CUDA
    #[arg(long, global = true, value_enum, default_value_t = DtypeChoice::Auto, help_heading = "Global options")]
    pub dtype: DtypeChoice,
    /// Draw faster and less exactly: fp8 computes the linear layers of Stable Diffusion 3's transformer in float8 (e4m3,
    /// a scale for each row), on GPUs of compute capability 8.9 or more, and attention on Hopper; the CPU imitates it,
    /// slowly
    #[arg(long, global = true, value_enum, help_heading = "Global options")]
    pub precision: Option<LossyPrecision>,
    /// CPU threads (default: all cores)
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    pub threads: Option<usize>,
    /// Device memory to use at most, in GiB, on a GPU that others use too (default: what is free); CUDA itself takes
    /// about half a GiB beside it
    #[arg(long, global = true, value_name = "GIB", env = "TOOLKIT_MEMORY_LIMIT", help_heading = "Global options")]
    pub memory_limit: Option<f64>,
    /// Never use the network
    #[arg(long, global = true, env = "HF_HUB_OFFLINE", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Global options")]
    pub offline: bool,
    /// Say only what went wrong or may be wrong
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Say more (twice: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// What is computed less exactly than a model was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LossyPrecision {
    Fp8,
}

impl Global {
    /// `--dtype`, or what `--precision` makes of it.
    pub fn numbers(&self) -> DtypeChoice {
        match self.precision {
            Some(LossyPrecision::Fp8) => DtypeChoice::Float8,
            None => self.dtype,
        }
    }

    /// Refuses `--precision` beside options and commands that it does not go with.
    ///
    /// # Errors
    /// Wrong usage.
    pub fn check_precision(&self, command: &Command) -> Result<()> {
        if self.precision.is_none() {
            return Ok(());
        }
        if self.dtype != DtypeChoice::Auto {
            return Err(usage(
                "--precision fp8 goes without --dtype: the layers that are not in float8 have the model's own type, bfloat16",
            ));
        }
        match command {
            Command::Stylize(_) | Command::Experiment(_) | Command::Submit(_) | Command::Bench(_) | Command::Worker => {
                Ok(())
            }
            _ => Err(usage(
                "--precision fp8 is for what draws with Stable Diffusion 3: stylize, experiment, submit and bench",
            )),
        }
    }
}

impl From<&Global> for runtime::RuntimeOptions {
    fn from(global: &Global) -> Self {
        let Global { device, threads, memory_limit, offline, .. } = global;
        Self {
            device: device.clone(),
            dtype: global.numbers(),
            threads: *threads,
            memory_limit: *memory_limit,
            offline: *offline,
        }
    }
}

/// How a command prints its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Csv,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Describe pictures
    Caption(CaptionArgs),
    /// Draw a picture from a prompt, or turn a photo into a style
    Stylize(Box<StylizeArgs>),
    /// Compose a description and a style text within the text encoder's limit
    Prompt(PromptArgs),
    /// Score pictures or captions
    #[command(subcommand)]
    Evaluate(Evaluate),
    /// Run an experiment, a built-in one by name or a TOML file
    Experiment(ExperimentArgs),
    /// Write an experiment file to start from, with a comment for every key
    Init(InitArgs),
    /// Run an experiment in shards on a Slurm cluster: a job array, and a job that merges; the same command again goes on
    Submit(SubmitArgs),
    /// Put the run folders of shards together into one
    Merge(MergeArgs),
    /// Write a run's HTML page again, from its CSV files alone
    Report(RunArgs),
    /// Draw a run's plots again, from its CSV files alone
    Plot(RunArgs),
    /// Show a run in the browser: every picture, ratings, blind votes
    View(ViewArgs),
    /// Say what differs between finished runs: settings, metrics, and pairs on the same pictures
    Compare(CompareArgs),
    /// Write a finished run in another form
    #[command(subcommand)]
    Export(ExportCommand),
    /// List, download, check and find models
    #[command(subcommand)]
    Models(ModelsCommand),
    /// What scores pictures and captions
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Measure speed and memory of a model
    Bench(BenchArgs),
    /// Say what is installed, what is missing, and the command that mends it
    Doctor(DoctorArgs),
    /// Print what makes a shell complete commands and options
    Completions(CompletionsArgs),
    /// Write a manual page for each command
    Man(ManArgs),
    /// A part of the commands that use several devices
    #[command(hide = true)]
    Worker,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn each_command_and_each_argument_says_what_it_is() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.is_hide_set() || command.get_about().is_some(), "{path}");
            for argument in command.get_arguments() {
                assert!(argument.is_hide_set() || argument.get_help().is_some(), "{path}: {}", argument.get_id());
            }
            command.get_subcommands().for_each(|below| check(below, &path));
        }
        check(&super::Cli::command(), "");
    }
}
