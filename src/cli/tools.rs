//! Commands around the models: `models`, `metrics`, `bench`, `doctor`, and what a shell needs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::Format;

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// The built-in names and whether each is on this machine
    List {
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Download a model into the Hugging Face cache
    Pull { name: String },
    /// Check a model's files: their sums, every tensor there, of the right shape, finite
    Verify { name: String },
    /// Where a model's files are
    Path { name: String },
}

#[derive(Debug, Subcommand)]
pub enum MetricsCommand {
    /// Every metric: what it compares, whether higher is better, the networks it needs
    ///
    /// SPICE is left out: the parser behind it is a program in Java. Identity of faces is left out: few drawn faces are found
    /// by a detector, and the networks are not free for every use.
    List {
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A model, artfid, or pictures: what the processor does for GPUs, decoding and writing
    pub model: String,
    /// Build the model at its published size with random weights; nothing is downloaded
    #[arg(long)]
    pub random_weights: bool,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch_size: usize,
    /// Denoising steps (default: the pipeline's own)
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Draw from a photo (image-to-image), leaving it this far
    #[arg(long, value_name = "S")]
    pub strength: Option<f64>,
    /// New tokens a caption
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub max_new_tokens: usize,
    /// Timed repetitions after a warm-up; medians are printed. A profiler that waits to be called (`ncu
    /// --profile-from-start off`) sees the first
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub repeat: usize,
    /// Width in pixels of generated pictures (default: the model's own; pictures: 1024)
    #[arg(long, value_name = "W")]
    pub width: Option<usize>,
    /// Height in pixels of generated pictures (default: the model's own; pictures: 1024)
    #[arg(long, value_name = "H")]
    pub height: Option<usize>,
    /// artfid: also evaluate three folders of N JPEGs, which are written for it, files and all; captioners: also describe
    /// N JPEGs of 640×480, as `caption` does
    #[arg(long, value_name = "N")]
    pub pictures: Option<usize>,
    /// captioners with --pictures: texts of N to --max-new-tokens tokens (default: all of --max-new-tokens)
    #[arg(long, value_name = "N")]
    pub shortest_text: Option<usize>,
    /// On CUDA without recorded work and custom kernels: what they bring
    #[arg(long)]
    pub plain: bool,
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where the pages go; the folder is made
    pub dir: PathBuf,
}
