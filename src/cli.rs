//! The command line, as clap types only. What each option does is said here once; `--help` shows it.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::images::Fit;
use crate::metrics::image::PictureMetric;
use crate::metrics::of_pictures;

use crate::runtime::{self, DtypeChoice};
use crate::schedulers::SchedulerName;

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

impl From<&Global> for runtime::RuntimeOptions {
    fn from(global: &Global) -> Self {
        let Global { device, dtype, threads, memory_limit, offline, .. } = global;
        Self {
            device: device.clone(),
            dtype: *dtype,
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

#[derive(Debug, Args)]
pub struct CaptionArgs {
    /// A built-in name, a folder, or a hub id
    #[arg(long)]
    pub model: String,
    /// What to ask (instruction models) or how the caption starts (BLIP)
    #[arg(long)]
    pub prompt: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// Beams of the beam search; 1 is greedy
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub num_beams: usize,
    /// Pictures at a time (default: chosen from the free memory)
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Pictures to describe; of a folder each one in it
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct StylizeArgs {
    /// A built-in name, a folder, a single-file checkpoint, or a hub id
    #[arg(long, required_unless_present = "from")]
    pub model: Option<String>,
    /// Draw a picture again from what its PNG file says; --image, --model, --lora, --controlnet, --control-image, and --ip-adapter
    /// with --ip-image say where its photo, its models and what steered it are now
    #[arg(long, value_name = "PNG", conflicts_with_all = [
        "prompt", "negative_prompt", "strength", "photo", "steps", "guidance_scale", "scheduler", "width", "height",
        "safety_checker", "control_scale", "control_start", "control_end", "ip_scale", "seed", "contact_sheet", "fit",
    ])]
    pub from: Option<PathBuf>,
    /// What to draw
    #[arg(long, required_unless_present_any = ["photo", "from"])]
    pub prompt: Option<String>,
    /// What not to draw
    #[arg(long)]
    pub negative_prompt: Option<String>,
    /// The picture to start from (image-to-image)
    #[arg(long, value_name = "PHOTO")]
    pub image: Option<PathBuf>,
    /// How far to leave the picture, 0 to 1 (several with --contact-sheet)
    #[arg(long, value_name = "S")]
    pub strength: Vec<f64>,
    /// How a photo of another shape is brought to the picture's (default: squash). With crop, pad and face the picture has
    /// the model's own size where --width and --height say no other
    #[arg(long, value_enum, value_name = "F")]
    pub fit: Option<Fit>,
    /// A photo to describe and draw in a style
    #[arg(long, requires = "describe", requires = "style", conflicts_with_all = ["prompt", "image"])]
    pub photo: Option<PathBuf>,
    /// The model that describes the photo
    #[arg(long, value_name = "CAPTIONER", requires = "photo")]
    pub describe: Option<String>,
    /// What the captioner is asked
    #[arg(long, requires = "photo")]
    pub instruction: Option<String>,
    /// The style text added to the description (several with --contact-sheet)
    #[arg(long, requires = "photo")]
    pub style: Vec<String>,
    /// Denoising steps (default: the pipeline's own)
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Classifier-free guidance (default: the pipeline's own)
    #[arg(long, value_name = "G")]
    pub guidance_scale: Option<f64>,
    /// Solver of the denoising steps, over the model's own noise schedule (default: the model's own)
    #[arg(long, value_enum, value_name = "NAME")]
    pub scheduler: Option<SchedulerName>,
    /// Low-rank adapters (LoRA) that change the model, a file or a hub id, and their weight (default: 1); several add up
    #[arg(long, value_name = "FILE[:WEIGHT]")]
    pub lora: Vec<String>,
    /// A ControlNet that lets a picture steer the drawing: a folder, an original single file, or a hub id (Stable Diffusion 1.5)
    #[arg(long, value_name = "MODEL")]
    pub controlnet: Option<String>,
    /// What the ControlNet reads: a picture, or of --image or --photo its edges (canny) or lines (lineart), which are computed at
    /// the size that is drawn
    #[arg(long, value_name = "FILE|canny|lineart")]
    pub control_image: Option<PathBuf>,
    /// How much the ControlNet counts
    #[arg(long, value_name = "S", default_value_t = 1.0, requires = "controlnet")]
    pub control_scale: f64,
    /// The share of the steps from which the ControlNet counts, 0 to 1
    #[arg(long, value_name = "S", default_value_t = 0.0, requires = "controlnet")]
    pub control_start: f64,
    /// The share of the steps up to which the ControlNet counts, 0 to 1
    #[arg(long, value_name = "E", default_value_t = 1.0, requires = "controlnet")]
    pub control_end: f64,
    /// An IP-Adapter that lets pictures be drawn after: a file as published, with its folder image_encoder beside it, or of the
    /// hub OWNER/NAME/FILE (Stable Diffusion 1.5)
    #[arg(long, value_name = "FILE", requires = "ip_image")]
    pub ip_adapter: Option<PathBuf>,
    /// A picture that is drawn after (several count together)
    #[arg(long, value_name = "FILE", requires = "ip_adapter")]
    pub ip_image: Vec<PathBuf>,
    /// How much the pictures count beside the text
    #[arg(long, value_name = "S", default_value_t = 1.0, requires = "ip_adapter")]
    pub ip_scale: f64,
    /// Width in pixels (default: the model's own; with Stable Diffusion 1 and a photo, the photo's)
    #[arg(long, value_name = "W")]
    pub width: Option<usize>,
    /// Height in pixels (default: as with the width)
    #[arg(long, value_name = "H")]
    pub height: Option<usize>,
    /// Let the checkpoint's safety checker look at the picture, and write a black one where it
    /// objects (off by default; only some Stable Diffusion checkpoints have one)
    #[arg(long)]
    pub safety_checker: bool,
    /// Seed of the noise (several with --contact-sheet)
    #[arg(long, value_name = "S", default_values_t = [0])]
    pub seed: Vec<u64>,
    /// One picture of all strengths, seeds and styles side by side, the photo at the left
    #[arg(long)]
    pub contact_sheet: bool,
    /// Where the picture goes (.png, .jpg or .webp)
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct PromptArgs {
    /// The generator whose text encoder sets the limit
    #[arg(long)]
    pub model: String,
    /// Shortened from its end when the whole is too long
    #[arg(long)]
    pub description: String,
    /// Always kept whole
    #[arg(long)]
    pub style: String,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// What can be evaluated: commands of their own, and one for each metric that compares two folders of pictures.
#[derive(Debug)]
pub enum Evaluate {
    Own(EvaluateCommand),
    Folders(&'static dyn PictureMetric, FoldersArgs),
}

fn of_folders() -> impl Iterator<Item = &'static dyn PictureMetric> {
    of_pictures().filter(|metric| metric.of_features().is_some())
}

impl FromArgMatches for Evaluate {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (name, own) = matches.subcommand().unzip();
        match of_folders().find(|metric| Some(metric.about().name) == name).zip(own) {
            Some((metric, own)) => Ok(Self::Folders(metric, FoldersArgs::from_arg_matches(own)?)),
            None => Ok(Self::Own(EvaluateCommand::from_arg_matches(matches)?)),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for Evaluate {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let command = EvaluateCommand::augment_subcommands(command);
        let of_metric = |metric: &'static dyn PictureMetric| {
            let help = metric.of_features().map(|between| between.help).unwrap_or_default();
            // The arguments bring a help text of their own.
            let command = FoldersArgs::augment_args(clap::Command::new(metric.about().name));
            command.about(help).long_about(None).display_order(1)
        };
        command.subcommands(of_folders().map(of_metric))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        EvaluateCommand::has_subcommand(name) || of_folders().any(|metric| metric.about().name == name)
    }
}

#[derive(Debug, Subcommand)]
pub enum EvaluateCommand {
    /// ArtFID = (LPIPS + 1) · (FID + 1), with its two parts
    #[command(display_order = 0)]
    Artfid(ArtfidArgs),
    /// LPIPS between content pictures and stylized ones
    #[command(display_order = 2)]
    Lpips(LpipsArgs),
    /// BLEU, ROUGE and METEOR of captions
    #[command(display_order = 3)]
    Captions(CaptionsArgs),
    /// CLIPScore of captions and their pictures, and RefCLIPScore where there are references
    #[command(display_order = 4)]
    ClipScore(ClipScoreArgs),
}

#[derive(Debug, Args)]
pub struct ArtfidArgs {
    /// The photos
    #[arg(long, value_name = "DIR")]
    pub content: PathBuf,
    /// Pictures in the style to reach
    #[arg(long, value_name = "DIR")]
    pub style: PathBuf,
    /// The photos turned into the style
    #[arg(long, value_name = "DIR")]
    pub stylized: PathBuf,
    #[command(flatten)]
    pub nets: MetricNets,
    /// How FID is estimated
    #[arg(long, value_enum, default_value_t = ArtfidMode::ArtFidInf)]
    pub mode: ArtfidMode,
    /// Sample sizes of the art_fid_inf extrapolation
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub points: usize,
    /// Smallest sample of the art_fid_inf extrapolation; with no more pictures, FID is not extrapolated
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub min_sample: usize,
    /// Bootstrap resamples of the 95 % intervals; 0: no intervals
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub resamples: usize,
    /// Seed of the art_fid_inf sampling and of the intervals
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub size: SizeArgs,
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How pictures of several sizes are compared.
#[derive(Debug, Clone, Default, Args)]
pub struct SizeArgs {
    /// Bring all pictures to N×N first, so that folders of different sizes can be compared; runs compare at 224
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub size: Option<u32>,
    /// How pictures that are not square are brought to N×N (default: squash)
    #[arg(long, value_enum, value_name = "F", requires = "size")]
    pub fit: Option<Fit>,
}

/// The metric networks, when not the ones in the Hugging Face or torch cache.
#[derive(Debug, Clone, Default, Args)]
pub struct MetricNets {
    /// art-Inception weights: a file, or the name of a model
    #[arg(long, value_name = "FILE")]
    pub inception: Option<String>,
    /// AlexNet weights: a file, or the name of a model
    #[arg(long, value_name = "FILE")]
    pub lpips_backbone: Option<String>,
    /// LPIPS linear heads: a file, or the name of a model
    #[arg(long, value_name = "FILE")]
    pub lpips_linear: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArtfidMode {
    #[value(name = "art_fid")]
    ArtFid,
    #[value(name = "art_fid_inf")]
    ArtFidInf,
}

/// Two folders of pictures and a metric between them.
#[derive(Debug, Args)]
pub struct FoldersArgs {
    /// The pictures
    pub dir_a: PathBuf,
    /// What they are compared with
    pub dir_b: PathBuf,
    /// The network whose features are compared, where there are several: art-inception, or inception-v3 (the one of
    /// published values)
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// The network's weights: a file, a folder, or the name of a model
    #[arg(long, value_name = "FILE", visible_alias = "model")]
    pub inception: Option<String>,
    #[command(flatten)]
    pub size: SizeArgs,
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct LpipsArgs {
    #[arg(long, value_name = "DIR")]
    pub content: PathBuf,
    #[arg(long, value_name = "DIR")]
    pub stylized: PathBuf,
    /// AlexNet weights: a file, or the name of a model
    #[arg(long, value_name = "FILE")]
    pub lpips_backbone: Option<String>,
    /// LPIPS linear heads: a file, or the name of a model
    #[arg(long, value_name = "FILE")]
    pub lpips_linear: Option<String>,
    #[command(flatten)]
    pub size: SizeArgs,
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct CaptionsArgs {
    /// JSON: {"ID": "caption", …}
    #[arg(long, value_name = "FILE")]
    pub predictions: PathBuf,
    /// JSON: {"ID": ["reference", …], …}
    #[arg(long, value_name = "FILE")]
    pub references: PathBuf,
    /// hf: as Hugging Face evaluate; coco: as pycocoevalcap, beside it
    #[arg(long, value_enum, default_value_t = CaptionProfile::Hf)]
    pub profile: CaptionProfile,
    /// Other predictions to compare with, by paired bootstrap
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Write every item's scores into this CSV file
    #[arg(long, value_name = "FILE")]
    pub per_item: Option<PathBuf>,
    /// Seed of the bootstrap
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u32,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct ClipScoreArgs {
    /// The folder of pictures; a picture's id is its file name without the ending
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// JSON: {"ID": "caption", …}
    #[arg(long, value_name = "FILE")]
    pub predictions: PathBuf,
    /// JSON: {"ID": ["reference", …], …}
    #[arg(long, value_name = "FILE")]
    pub references: Option<PathBuf>,
    /// The CLIP: a name, a folder or a hub id (default: clip-vit-b-32)
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CaptionProfile {
    Hf,
    Coco,
}

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
