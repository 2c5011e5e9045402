//! What a model can do, and the table of names. A folder a family; a file a shared net.

pub mod captioners;
mod detect;
pub mod diffusion;
mod family;
mod files;
mod ip_adapter_choice;
mod load;
mod locate;
mod lora_choice;
pub mod metric_nets;
mod needed_files;
mod processor_config;
pub mod random;
mod registry;
pub mod text;
mod verify;
pub mod vision;
mod weighted;

use std::sync::Arc;

use anyhow::Result;
use image::RgbImage;
use tch::{Device, Kind};

use crate::error::usage;
use crate::schedulers::{SchedulerName, SolverOptions};

pub use crate::images::ControlMap;
pub use detect::family_of;
pub use family::{AdapterTask, CaptionerTask, Checked, Family, GeneratorTask, MetricNetTask, Task};
pub use ip_adapter_choice::IpAdapterChoice;
pub use load::{
    begin_generator, captioner_preprocess, check_captions, check_precision, load_captioner, load_generator,
    load_outline, load_token_budget, locate_captioner, locate_generator,
};
pub use locate::{
    Located, LpipsFiles, find_local, locate, locate_clip, locate_controlnet, locate_csd, locate_dinov2,
    locate_inception, locate_inception_v3, locate_ip_adapter, locate_lora, locate_lpips, locate_lpips_backbone,
    locate_lpips_linear,
};
pub use lora_choice::LoraChoice;
pub use registry::{FAMILIES, MODELS, ModelEntry, ModelSource, find};
pub use text::text_tokenizer::{TextTokenizer, clip_tokenizers};
pub use verify::{FileReport, verify_build, verify_files};
pub use weighted::{AND, file_name, join_weight, parts, show_weight, split_weight};

/// How a caption is made.
#[derive(Debug, Clone)]
pub struct CaptionOptions {
    /// The instruction (Phi-4), or the words that the caption starts with (BLIP). None = the family's own.
    pub prompt: Option<String>,
    /// None = the family's own.
    pub max_new_tokens: Option<usize>,
    /// 1 = greedy.
    pub num_beams: usize,
}

/// One picture's caption.
#[derive(Debug, Clone, PartialEq)]
pub struct Caption {
    /// Decoded without special tokens.
    pub text: String,
    /// New tokens, the end token included.
    pub tokens: usize,
}

/// A model that describes pictures.
pub trait Captioner {
    /// One caption a picture, in the order given. Pictures may be of any and different sizes; a
    /// batch gives the same texts as one by one.
    fn caption(&self, images: &[RgbImage], options: &CaptionOptions) -> Result<Vec<Caption>>;
}

/// Makes of a photo the smaller picture that a captioner reads: the same captions come of both. For any thread, before the
/// captioner is loaded and while it works.
pub type Preprocess = Arc<dyn Fn(RgbImage) -> Result<RgbImage> + Send + Sync>;

/// What the captioner reads of this photo: the photo itself where it has none preprocessed.
///
/// # Errors
/// When the photo cannot be resized.
pub fn preprocessed(photo: RgbImage, preprocess: Option<&Preprocess>) -> Result<RgbImage> {
    match preprocess {
        Some(preprocess) => preprocess(photo),
        None => Ok(photo),
    }
}

/// A captioner of random weights, whose speed can be measured: each text has the length asked for.
pub trait MeasuredCaptioner {
    /// The number type that it computes in.
    fn dtype(&self) -> Kind;

    /// A batch of made-up pictures.
    fn batch(&self, pictures: usize) -> Result<MeasuredBatch<'_>>;

    /// As that of the captioner with weights.
    fn preprocess(&self) -> Option<Preprocess> {
        None
    }

    /// Describes pictures as [`Captioner::caption`] does, each in so many new tokens, at least one.
    fn describe(&self, pictures: &[RgbImage], new_tokens: &[usize]) -> Result<()>;
}

/// Writes texts of so many new tokens, one for each picture of a batch.
pub type MeasuredBatch<'a> = Box<dyn Fn(usize) -> Result<()> + 'a>;

/// What to draw: one picture for each seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerateRequest {
    /// One prompt for each picture.
    pub prompts: Vec<String>,
    /// For all pictures; None = "".
    pub negative_prompt: Option<String>,
    /// One seed for each picture: each picture's noise comes from its own CPU generator, so it does
    /// not depend on the batch.
    pub seeds: Vec<u64>,
    /// None = the pipeline's default.
    pub steps: Option<usize>,
    /// None = the pipeline's default.
    pub guidance_scale: Option<f64>,
    /// None = the pipeline's default: the model's own, or that of the photo (Stable Diffusion 1).
    pub width: Option<usize>,
    /// None = the pipeline's default: the model's own, or that of the photo (Stable Diffusion 1).
    pub height: Option<usize>,
    /// The photos to start from (image-to-image), one for each picture; empty = text-to-image.
    pub images: Vec<RgbImage>,
    /// How far to leave the photo, 0 to 1; None = the pipeline's default.
    pub strength: Option<f64>,
    /// Another solver than the model's own, over the same noise schedule.
    pub scheduler: Option<SchedulerName>,
    /// What the solver is told beside its configuration.
    pub solver_options: SolverOptions,
    /// A picture, of edges for example, that steers the drawing through a ControlNet; Stable Diffusion 1 alone.
    pub control: Option<ControlRequest>,
    /// Pictures that are drawn after, through an IP-Adapter; Stable Diffusion 1 alone.
    pub ip_adapter: Option<IpAdapterChoice>,
    /// Low-rank adapters that change the model's weights; they add up.
    pub loras: Vec<LoraChoice>,
    /// Whether pictures that the checkpoint's safety checker objects to become black; only where it has one.
    pub safety_checker: bool,
}

/// What a ControlNet is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlRequest {
    /// As it was named: see [`locate_controlnet`]. It must be on this machine by then.
    pub model: String,
    /// What is computed of each image, at the size that is drawn; None: the images are what it reads.
    pub map: Option<ControlMap>,
    /// One for each picture.
    pub images: Vec<RgbImage>,
    /// How much it counts.
    pub scale: f64,
    /// The shares of the steps between which it counts, 0 to 1.
    pub start: f64,
    pub end: f64,
}

impl Default for ControlRequest {
    fn default() -> Self {
        Self { model: String::new(), map: None, images: Vec::new(), scale: 1.0, start: 0.0, end: 1.0 }
    }
}

impl ControlRequest {
    fn check(&self, pictures: usize) -> Result<()> {
        if self.images.len() != pictures {
            return Err(usage(format!(
                "{pictures} pictures with {} for the ControlNet: one for each",
                self.images.len()
            )));
        }
        if !self.scale.is_finite() {
            return Err(usage(format!("the ControlNet's scale {} is not a number to work with", self.scale)));
        }
        if !(0.0 <= self.start && self.start < self.end && self.end <= 1.0) {
            return Err(usage(format!(
                "the ControlNet counts from {} to {} of the steps: give a start below an end, both between 0 and 1",
                self.start, self.end
            )));
        }
        Ok(())
    }
}

impl GenerateRequest {
    /// The request for some of its pictures.
    pub(crate) fn only(&self, rows: &[usize]) -> Self {
        Self {
            prompts: rows.iter().map(|&i| self.prompts[i].clone()).collect(),
            seeds: rows.iter().map(|&i| self.seeds[i]).collect(),
            images: rows.iter().filter_map(|&i| self.images.get(i).cloned()).collect(),
            control: self.control.as_ref().map(|control| ControlRequest {
                images: rows.iter().filter_map(|&i| control.images.get(i).cloned()).collect(),
                ..control.clone()
            }),
            ..self.clone()
        }
    }

    /// Checks that there is one of everything for every picture, and that numbers can be worked with.
    pub(crate) fn check(&self) -> Result<()> {
        let count = self.prompts.len();
        if self.seeds.len() != count || (!self.images.is_empty() && self.images.len() != count) {
            return Err(usage(format!(
                "{count} prompts with {} seeds and {} photos: one of each for every picture",
                self.seeds.len(),
                self.images.len()
            )));
        }
        if let Some(control) = &self.control {
            control.check(count)?;
        }
        if let Some(choice) = &self.ip_adapter {
            choice.check().map_err(usage)?;
        }
        if self.guidance_scale.is_some_and(|guidance| !guidance.is_finite()) {
            return Err(usage("the guidance scale must be a number"));
        }
        match self.strength {
            Some(_) if self.images.is_empty() => Err(usage("a strength needs a photo to start from")),
            Some(strength) if !(0.0..=1.0).contains(&strength) => {
                Err(usage(format!("strength {strength} must be between 0 and 1")))
            }
            _ => Ok(()),
        }
    }
}

/// What a request leaves open, as one of its pictures is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    pub steps: usize,
    pub guidance_scale: f64,
    /// Of image-to-image.
    pub strength: Option<f64>,
    /// The solver's name.
    pub sampler: &'static str,
    /// In pixels.
    pub width: usize,
    pub height: usize,
}

/// A picture as it was drawn.
#[derive(Debug, Clone)]
pub struct Generated {
    pub image: RgbImage,
    /// Something the user must know, e.g. "NaN in float16, drawn again in float32".
    pub remark: Option<String>,
}

/// A generator as its configuration files describe it, without weights: what follows from them and a request alone is
/// told before anything is loaded.
pub trait Outline {
    /// Width and height that the model was made for, in pixels.
    fn own_size(&self) -> (usize, usize);

    /// Refuses a request that cannot be drawn whatever the weights are: sizes, steps, strength, scheduler, guidance.
    fn check(&self, request: &GenerateRequest) -> Result<()>;
}

/// A generator whose phases can be timed.
pub trait PhasedGenerator: Generator {
    /// The number type that it draws in.
    fn dtype(&self) -> Kind;

    /// Merges these low-rank adapters, and no others, into the weights.
    fn adapt(&self, loras: &[LoraChoice]) -> Result<()>;

    /// Draws pictures of one size with their texts encoded anew, and gives the number of denoising steps. `lap` is called
    /// where the first phase begins and where each ends: texts, what else is known before the first step, denoising,
    /// decoding.
    fn draw_in_phases(&self, request: &GenerateRequest, lap: &mut dyn FnMut()) -> Result<usize>;
}

/// A model that draws pictures.
pub trait Generator {
    /// Waits for what is still being read of it.
    ///
    /// # Errors
    /// When that cannot be read.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// One picture for each prompt. Text is encoded once for equal prompts over the life of the model.
    fn generate(&self, request: &GenerateRequest) -> Result<Vec<Generated>>;

    /// Has another device compute the unwanted half of classifier-free guidance from now on, at the same time: faster,
    /// and but for rounding the same pictures. Where a request is without guidance, that device has nothing to do.
    ///
    /// # Errors
    /// Wrong usage where a generator works on one device alone; what goes wrong in loading the denoiser there.
    fn share_guidance(&mut self, _device: Device) -> Result<()> {
        Err(usage("this generator draws on one device: name one in --device"))
    }

    /// Width and height that the model was made for, in pixels.
    fn own_size(&self) -> (usize, usize);

    /// What picture `at` of a request is drawn with where the request leaves it open.
    fn settled(&self, request: &GenerateRequest, _at: usize) -> Result<Settled> {
        let (width, height) = self.own_size();
        Ok(Settled {
            steps: request.steps.unwrap_or_default(),
            guidance_scale: request.guidance_scale.unwrap_or_default(),
            strength: request.strength,
            sampler: request.scheduler.map_or("own", |name| name.name()),
            width: request.width.unwrap_or(width),
            height: request.height.unwrap_or(height),
        })
    }

    /// The composed prompt that fits the text encoder (the CLIP limit for Stable Diffusion).
    fn token_budget(&self) -> &crate::prompts::TokenBudget;
}
