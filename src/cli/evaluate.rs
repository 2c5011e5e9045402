//! `evaluate`: what scores pictures and captions.

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgMatches, Args, FromArgMatches, Subcommand, ValueEnum};

use super::Format;
use crate::error::usage;
use crate::images::Fit;
use crate::metrics::image::PictureMetric;
use crate::metrics::of_pictures;

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
    #[command(flatten)]
    pub measuring: MeasuringArgs,
}

/// How networks look at pictures, and how their scores are printed.
#[derive(Debug, Clone, Args)]
pub struct MeasuringArgs {
    /// Let the networks round what they multiply to TensorFloat-32 on a GPU, three decimal digits: faster; PyTorch does so
    /// in convolutions unless it is told not to
    #[arg(long)]
    pub tf32: bool,
    /// Pictures at a time (default: chosen from the free memory)
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

impl MeasuringArgs {
    /// Pictures at a time, where that was asked for.
    ///
    /// # Errors
    /// Wrong usage: none.
    pub fn at_a_time(&self) -> Result<Option<usize>> {
        if self.batch_size == Some(0) {
            return Err(usage("--batch-size must be at least 1"));
        }
        Ok(self.batch_size)
    }
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
    #[command(flatten)]
    pub lpips: LpipsNets,
}

/// The networks of LPIPS, when not the ones in the Hugging Face or torch cache.
#[derive(Debug, Clone, Default, Args)]
pub struct LpipsNets {
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
    #[command(flatten)]
    pub measuring: MeasuringArgs,
}

#[derive(Debug, Args)]
pub struct LpipsArgs {
    /// The photos
    #[arg(long, value_name = "DIR")]
    pub content: PathBuf,
    /// The photos turned into the style
    #[arg(long, value_name = "DIR")]
    pub stylized: PathBuf,
    #[command(flatten)]
    pub nets: LpipsNets,
    #[command(flatten)]
    pub size: SizeArgs,
    #[command(flatten)]
    pub measuring: MeasuringArgs,
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
    /// How results are printed
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
    #[command(flatten)]
    pub measuring: MeasuringArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CaptionProfile {
    Hf,
    Coco,
}
