//! Commands that make a run: `experiment`, `init`, `submit`, `merge`.

use std::path::PathBuf;

use clap::Args;

use super::Format;

#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// A built-in experiment, or a TOML file
    #[arg(value_name = "NAME|FILE.toml", required_unless_present_any = ["list", "keys"])]
    pub experiment: Option<String>,
    /// List the built-in experiments
    #[arg(long)]
    pub list: bool,
    /// List every key of experiment files with its type, default and meaning; with --format json a JSON Schema for editors
    #[arg(long)]
    pub keys: bool,
    /// Say what would run, and what is there and what is missing; nothing is loaded, downloaded or written
    #[arg(long)]
    pub dry_run: bool,
    /// How --dry-run and --keys print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    #[command(flatten)]
    pub options: ExperimentOptions,
    /// Do only part I of N (from 1); `merge` puts the parts together. auto: the part that Slurm's job array or srun says
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file to write; one that is there is left as it is
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// The built-in experiment to start from, or a kind: style_transfer, caption
    #[arg(long, value_name = "NAME", default_value = "style_ablation")]
    pub from: String,
}

/// What is changed of an experiment, and where it goes.
#[derive(Debug, Args)]
pub struct ExperimentOptions {
    /// mini: the embedded models and pictures; full: the real models
    #[arg(long, default_value = "mini")]
    pub profile: String,
    /// The run folder (default: runs/NAME)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Change a key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Use only the first N items
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// A built-in experiment, or a TOML file
    #[arg(value_name = "NAME|FILE.toml")]
    pub experiment: String,
    #[command(flatten)]
    pub options: ExperimentOptions,
    /// Shards of the run, each a task of the job array
    #[arg(long, value_name = "N")]
    pub tasks: usize,
    /// Slurm's partition
    #[arg(long, value_name = "P")]
    pub partition: Option<String>,
    /// GPUs of each task: a number, or TYPE:NUMBER
    #[arg(long, value_name = "G")]
    pub gpus_per_task: Option<String>,
    /// Time limit of a task as Slurm reads it: 30 (minutes), 2:00:00, 1-12. A minute before, it is told to end
    #[arg(long, value_name = "T")]
    pub time: Option<String>,
    /// Another option of sbatch, as account=lab; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub sbatch: Vec<String>,
    /// Write the scripts and print how they would be submitted, and submit nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Run folders of the shards
    #[arg(required = true, value_name = "DIR")]
    pub runs: Vec<PathBuf>,
    /// The run folder to write (default: the shards' common name)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
