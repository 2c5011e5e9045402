//! Commands that run one model: captions, pictures, prompts.

use std::path::PathBuf;

use clap::Args;

use super::Format;
use crate::images::Fit;
use crate::schedulers::SchedulerName;

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
    /// How results are printed
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
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}
