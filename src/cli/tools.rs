//! Commands around the models: `models`, `metrics`, `bench`, `doctor`, and what a shell needs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::Format;

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// The built-in names and whether each is on this machine
    List {
        /// How results are printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Download a model into the Hugging Face cache
    Pull {
        /// A built-in name, or a hub id: owner/name, or owner/name/FILE
        name: String,
    },
    /// Check a model's files: their sums, every tensor there, of the right shape, finite
    Verify {
        /// A built-in name, a folder, a file, or a hub id
        name: String,
    },
    /// Where a model's files are
    Path {
        /// A built-in name, or a hub id
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum MetricsCommand {
    /// Every metric: what it compares, whether higher is better, the networks it needs
    ///
    /// SPICE is left out: the parser behind it is a program in Java. Identity of faces is left out: few drawn faces are found
    /// by a detector, and the networks are not free for every use.
    List {
        /// How results are printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A model; artfid; pictures: what the processor does for GPUs, decoding and writing; or study: all of style_ablation,
    /// phase by phase, from the start of the process to the page
    pub model: String,
    /// Build the model at its published size with random weights; nothing is downloaded
    #[arg(long)]
    pub random_weights: bool,
    /// Pictures at a time (default: 1; study: chosen from the memory, as experiment does)
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Denoising steps (default: the pipeline's own)
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Draw from a photo (image-to-image), leaving it this far
    #[arg(long, value_name = "S")]
    pub strength: Option<f64>,
    /// Draw with low-rank adapters (LoRA), a file or a hub id, and time how long merging them takes; several add up
    #[arg(long, value_name = "FILE[:WEIGHT]")]
    pub lora: Vec<String>,
    /// Let a ControlNet steer the drawing; with --random-weights a built-in name
    #[arg(long, value_name = "MODEL")]
    pub controlnet: Option<String>,
    /// Draw after a picture through an IP-Adapter; with --random-weights a built-in name
    #[arg(long, value_name = "FILE")]
    pub ip_adapter: Option<PathBuf>,
    /// New tokens a caption (default: 20; study: as many as the captioner writes by itself)
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
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
    #[command(flatten)]
    pub study: StudyArgs,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub format: Format,
}

/// Of `bench study`. The photos are JPEGs of 640×480 that are written for it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of study")]
pub struct StudyArgs {
    /// Photos that are described and drawn (default: 40)
    #[arg(long, value_name = "N")]
    pub photos: Option<usize>,
    /// Style texts under which each is drawn (default: 2)
    #[arg(long, value_name = "K")]
    pub styles: Option<usize>,
    /// Models of any weights in their published layouts: DIR/phi4, DIR/sd3, and in DIR/nets art_inception.pth, alexnet.pth
    /// and alex.pth, as experiments/speed/several_gpus.py makes them
    #[arg(long, value_name = "DIR", conflicts_with = "random_weights")]
    pub weights: Option<PathBuf>,
    /// Of the experiment where neither --weights nor --random-weights is given (default: full)
    #[arg(long, value_name = "P", conflicts_with_all = ["weights", "random_weights"])]
    pub profile: Option<String>,
    /// Anything else of the experiment (several times), as in `experiment --set`
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Keep the run in this folder, which is new (default: a temporary one)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl StudyArgs {
    /// Whether any of these was given.
    pub fn is_given(&self) -> bool {
        let Self { photos, styles, weights, profile, set, out } = self;
        photos.or(*styles).is_some() || weights.is_some() || profile.is_some() || !set.is_empty() || out.is_some()
    }
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where the pages go; the folder is made
    pub dir: PathBuf,
}
