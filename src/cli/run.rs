//! Commands about finished runs: pages, plots, comparisons, exports.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// A run folder
    pub run: PathBuf,
}

#[derive(Debug, Args)]
pub struct ViewArgs {
    /// A run folder of a style experiment
    pub run: PathBuf,
    /// Port to listen at (default: 8765); a free one where it is taken
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Open it to a network: the address to listen at, 0.0.0.0 for all. The printed address then holds a token that
    /// whoever opens it needs (default: this machine alone)
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Open no browser
    #[arg(long)]
    pub no_open: bool,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folders of one kind, two or more
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Where compare.html and compare.csv go (default: the working folder)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// A Jupyter notebook
    Notebook(NotebookArgs),
    /// The results as a table for a paper (LaTeX with booktabs) or a README (Markdown)
    Table(TableArgs),
    /// Runs on an MLflow server: one a strategy (or a model and data set) with metrics, settings, results.csv, report.html
    Mlflow(MlflowArgs),
}

#[derive(Debug, Args)]
pub struct MlflowArgs {
    /// A run folder
    pub run: PathBuf,
    /// The server, such as http://127.0.0.1:5000; who asks is said by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,
    /// or by MLFLOW_TRACKING_TOKEN
    #[arg(long, env = "MLFLOW_TRACKING_URI", hide_env_values = true)]
    pub uri: String,
    /// The experiment on the server, made where it is not there (default: the run's name)
    #[arg(long, value_name = "NAME", env = "MLFLOW_EXPERIMENT_NAME")]
    pub experiment: Option<String>,
}

#[derive(Debug, Args)]
pub struct TableArgs {
    /// A run folder
    pub run: PathBuf,
    /// The format: latex or markdown
    #[arg(long, value_name = "FORMAT")]
    pub to: String,
    /// The file to write (default: print it)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct NotebookArgs {
    /// A run folder
    pub run: PathBuf,
    /// The notebook to write (default: into notebooks-export/)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
