//! Stable Diffusion 1 and 2: text to picture, and photo to picture.
//!
//! The pipelines are those of
//! <https://github.com/huggingface/diffusers/tree/main/src/diffusers/pipelines/stable_diffusion>:
//! the same seed gives the same picture.

mod config;
mod outline;
mod prompt_encoder;
mod redraw;
pub mod safety_checker;
mod step_noise;
mod steps;
mod transformer;
pub mod unet;
mod unet_config;

use std::cell::OnceCell;
use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use self::config::{SAFETY_CHECKER, UNET, VAE};
pub(in crate::models) use self::outline::SdOutline;
use self::prompt_encoder::PromptEncoder;
use self::safety_checker::SafetyChecker;
use self::step_noise::StepNoise;
use self::steps::{Spare, Steps};
use self::unet::Unet;
use super::autoencoder_kl::AutoencoderKl;
use super::pipeline_part::STABLE_DIFFUSION;
use super::pipeline_source::Source;
use super::rescue::{self, Decoded};
use crate::error::usage;
use crate::images::{self, Filter};
use crate::models::{GenerateRequest, Generated, Generator, Outline};
use crate::prompts::TokenBudget;
use crate::runtime::{self, Runtime};
use crate::schedulers::Solver;

/// Default of the pipelines.
const GUIDANCE: f64 = 7.5;

/// A photo is called large when it has this many times the places that the model was trained on.
const LARGE: i64 = 6;

/// A batch of pictures, ready for the denoising loop.
pub struct Job {
    /// What is unwanted first, where there is guidance: [batch or 2 · batch, tokens, width].
    text: Tensor,
    guidance: Option<f64>,
    latents: Tensor,
    solver: Box<dyn Solver>,
    /// Where in the solver's timesteps the drawing starts.
    first: usize,
    noise: StepNoise,
}

impl Job {
    /// Denoising steps.
    pub fn steps(&self) -> usize {
        self.solver.timesteps().len() - self.first
    }
}

/// The pipeline.
#[derive(Debug)]
pub struct StableDiffusion {
    outline: SdOutline,
    device: Device,
    kind: Kind,
    /// The autoencoder's number type: float32 where its configuration asks for that.
    vae_kind: Kind,
    /// Number type that noise is drawn in: the stream of numbers depends on it.
    noise_kind: Kind,
    budget: TokenBudget,
    prompts: PromptEncoder,
    unet: Unet,
    /// The last drawing's recorded step.
    spare: Spare,
    vae: AutoencoderKl,
    checker: OnceCell<SafetyChecker>,
}

impl StableDiffusion {
    /// From a folder in diffusers' layout, or from one file of the original layout.
    pub fn load(path: &Path, rt: &Runtime) -> Result<Self> {
        let open = |source| Self::open(source, rt.device, rt.kind(Kind::Half));
        Source::at(path).and_then(open).with_context(|| format!("loading Stable Diffusion from {}", path.display()))
    }

    /// At the published size, with random weights: to measure speed.
    pub fn random(rt: &Runtime) -> Result<Self> {
        Self::open(Source::Random(STABLE_DIFFUSION), rt.device, rt.kind(Kind::Half))
    }

    fn open(source: Source, device: Device, kind: Kind) -> Result<Self> {
        let outline = SdOutline::read(source)?;
        let SdOutline { source, unet: config, vae: vae_config, .. } = &outline;
        let prompts = PromptEncoder::load(source, device, kind)?;
        if let Some(size) = config.layout()?.sizes.iter().find(|size| size.text != prompts.width()) {
            return Err(usage(format!(
                "the text encoder gives {} values (hidden_size of text_encoder) and the U-Net reads {} (cross_attention_dim)",
                prompts.width(),
                size.text
            )));
        }
        let vae_kind = if vae_config.force_upcast == Some(true) { Kind::Float } else { kind };
        let unet = source.build(UNET, device, kind, |weights| Unet::new(weights, config))?;
        let vae = source.build(VAE, device, vae_kind, |weights| AutoencoderKl::new(weights, vae_config))?;
        let budget = prompts.budget();
        let (noise_kind, spare, checker) = (kind, Spare::default(), OnceCell::new());
        Ok(Self { outline, device, kind, vae_kind, noise_kind, budget, prompts, unet, spare, vae, checker })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The size that is drawn where none is asked for: height and width in pixels.
    pub fn default_size(&self) -> (i64, i64) {
        self.outline.default_size()
    }

    /// Texts as the U-Net reads them: [texts, tokens, width].
    pub fn encode(&self, texts: &[String]) -> Result<Tensor> {
        self.prompts.encode(texts)
    }

    /// Forgets encoded prompts, so that encoding can be timed again.
    pub fn forget_prompts(&self) {
        self.prompts.forget();
    }

    /// The checker, which is loaded when it is first asked for.
    fn checker(&self) -> Result<&SafetyChecker> {
        if let Some(checker) = self.checker.get() {
            return Ok(checker);
        }
        let folder = self.outline.needed_checker()?;
        let config = self.outline.source.config(SAFETY_CHECKER.folder)?;
        let extractor = folder.join("feature_extractor");
        let checker = self.outline.source.build(SAFETY_CHECKER, self.device, self.kind, |weights| {
            SafetyChecker::new(weights, &config, &extractor)
        })?;
        Ok(self.checker.get_or_init(|| checker))
    }

    /// Builds the checker where its files are there, so that they can be verified.
    pub fn build_checker(&self) -> Result<()> {
        match self.outline.checker_folder()? {
            Some(folder) if folder.join(SAFETY_CHECKER.folder).is_dir() => self.checker().map(drop),
            _ => Ok(()),
        }
    }

    /// Where denoising starts: noise, or photos with noise. Each picture draws from its own generator.
    fn start(&self, request: &GenerateRequest, size: (i64, i64), solver: &dyn Solver, first: usize) -> Result<Tensor> {
        let shape = [1, self.outline.unet.in_channels, size.1, size.0];
        // The draw of the autoencoder's latents comes before that of the noise.
        let count = draws_before_steps(request);
        let draw = |&seed: &u64| runtime::seeded_normal(seed, count, &shape, self.noise_kind);
        let pictures: Vec<Vec<Tensor>> = request.seeds.iter().map(draw).collect();
        let draws: Vec<Tensor> = (0..count)
            .map(|i| {
                let draws: Vec<&Tensor> = pictures.iter().map(|draws| &draws[i]).collect();
                Tensor::cat(&draws, 0).to_device(self.device).to_kind(self.kind)
            })
            .collect();
        Ok(match draws.as_slice() {
            [of_latents, noise] => {
                solver.add_noise(&self.encode_photos(&request.images, size, of_latents)?, noise, first)
            }
            noise => &noise[0] * solver.init_noise_sigma(),
        })
    }

    /// The photos' latents, drawn by `draws` [photos, channels, height, width].
    fn encode_photos(&self, photos: &[RgbImage], (width, height): (i64, i64), draws: &Tensor) -> Result<Tensor> {
        let scale = self.outline.vae.scale_factor();
        let (width, height) = (width * scale, height * scale);
        let at_a_time = self.vae.photos_at_a_time(width * height) as usize;
        let mut encoded = Vec::new();
        for (photos, draws) in photos.chunks(at_a_time).zip(draws.split(at_a_time as i64, 0)) {
            let resize = |photo| images::resize(photo, width as u32, height as u32, Filter::Lanczos);
            let photos: Vec<RgbImage> = photos.iter().map(resize).collect();
            let pixels = images::batch_tensor(&photos)?.to_device(self.device).to_kind(Kind::Float);
            let pixels = (pixels / 255.0 * 2.0 - 1.0).to_kind(self.vae_kind);
            let latents = self.vae.encode(&pixels).sample(&draws.to_kind(self.vae_kind));
            encoded.push(self.vae.scale(&latents).to_kind(self.kind));
        }
        Ok(Tensor::cat(&encoded, 0))
    }

    /// Everything that is known before the first step. All pictures of the request must be of one size.
    pub fn prepare(&self, request: &GenerateRequest) -> Result<Job> {
        request.check()?;
        let size = self.outline.latent_size(request, 0)?;
        let (solver, first) = self.outline.solver(request)?;
        let guidance = Some(request.guidance_scale.unwrap_or(GUIDANCE)).filter(|&guidance| guidance > 1.0);
        let wanted = self.encode(&request.prompts)?;
        let text = match guidance {
            None => wanted,
            Some(_) => {
                let unwanted = self.encode(&[request.negative_prompt.clone().unwrap_or_default()])?;
                Tensor::cat(&[unwanted.expand_as(&wanted), wanted], 0)
            }
        };
        let latents = self.start(request, size, solver.as_ref(), first)?;
        let noise = StepNoise {
            seeds: request.seeds.clone(),
            shape: [1, self.outline.unet.in_channels, size.1, size.0],
            before: draws_before_steps(request),
            steps: solver.timesteps().len() - first,
            drawn_in: self.noise_kind,
            kind: self.kind,
            device: self.device,
            drawn: None,
            next: 0,
        };
        Ok(Job { text, guidance, latents, solver, first, noise })
    }

    /// The denoising loop, to the latents of the pictures. Nothing in it waits for the device.
    pub fn denoise(&self, job: Job) -> Result<Tensor> {
        let Job { text, guidance, mut latents, mut solver, first, mut noise } = job;
        let timesteps = solver.timesteps()[first..].to_vec();
        let mut steps = Steps::new(&self.unet, &self.spare, &text, &timesteps);
        for step in 0..timesteps.len() {
            let index = first + step;
            let input = solver.scale_model_input(&latents, index);
            let output = match guidance {
                None => steps.forward(&input, step)?,
                Some(guidance) => {
                    let parts = steps.forward(&Tensor::cat(&[&input, &input], 0), step)?.chunk(2, 0);
                    &parts[0] + (&parts[1] - &parts[0]) * guidance
                }
            };
            latents = solver.step(&output, index, &latents, &mut || noise.next())?;
        }
        Ok(latents)
    }

    /// Pictures as bytes, and whether each is all numbers, on the device:
    /// uint8 [batch, 3, height, width] and bool `[batch]`.
    pub fn decode(&self, latents: &Tensor) -> Decoded {
        self.vae.pictures(latents, self.vae_kind)
    }

    /// Pictures of one size together, then those of the next: what is drawn from a photo does not depend on the photos
    /// beside it.
    fn draw(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        request.check()?;
        let sizes: Vec<(i64, i64)> =
            (0..request.prompts.len()).map(|i| self.outline.latent_size(request, i)).collect::<Result<_>>()?;
        self.warn_of_size(request, &sizes);
        let mut drawn: Vec<(usize, Generated)> = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            if sizes[..i].contains(size) {
                continue;
            }
            let rows: Vec<usize> = (i..sizes.len()).filter(|&row| sizes[row] == *size).collect();
            let alike = request.only(&rows);
            let latents = self.denoise(self.prepare(&alike)?)?;
            drawn.extend(rows.into_iter().zip(rescue::finish(self, &alike, &latents)?));
        }
        drawn.sort_by_key(|(row, _)| *row);
        Ok(drawn.into_iter().map(|(_, generated)| generated).collect())
    }

    fn warn_of_size(&self, request: &GenerateRequest, sizes: &[(i64, i64)]) {
        let (height, width) = self.default_size();
        let (scale, asked) = (self.outline.vae.scale_factor(), request.width.is_some() || request.height.is_some());
        let places = |&&(w, h): &&(i64, i64)| w * h * scale * scale;
        if let Some((w, h)) = sizes.iter().max_by_key(places).filter(|size| places(size) > LARGE * height * width)
            && !asked
        {
            tracing::warn!(
                "{}×{} pixels are drawn, as many as the photo has, by a model of {width}×{height}: a smaller --width and \
                 --height are much faster and mostly look better",
                w * scale,
                h * scale
            );
        }
    }

    /// Pictures that the checker objects to become black.
    fn check(&self, drawn: Vec<Generated>) -> Result<Vec<Generated>> {
        let pictures: Vec<RgbImage> = drawn.iter().map(|generated| generated.image.clone()).collect();
        let flags = self.checker()?.check(&pictures)?;
        let judged = |(generated, flag): (Generated, bool)| {
            if !flag {
                return generated;
            }
            let remark = "the safety checker objects to the picture, so it is black: try another prompt or seed";
            let remark = generated.remark.map_or(remark.to_string(), |before| format!("{before}; {remark}"));
            let (width, height) = generated.image.dimensions();
            Generated { image: RgbImage::new(width, height), remark: Some(remark) }
        };
        Ok(drawn.into_iter().zip(flags).map(judged).collect())
    }
}

/// What each picture's generator draws before the first step: noise, and with photos a draw of their latents.
fn draws_before_steps(request: &GenerateRequest) -> usize {
    if request.images.is_empty() { 1 } else { 2 }
}

impl Generator for StableDiffusion {
    fn generate(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        if request.prompts.is_empty() {
            return Ok(Vec::new());
        }
        tch::no_grad(|| {
            if !request.safety_checker {
                return self.draw(request);
            }
            // One that is not there is said before anything is drawn.
            self.checker()?;
            self.check(self.draw(request)?)
        })
    }

    fn own_size(&self) -> (usize, usize) {
        self.outline.own_size()
    }

    fn token_budget(&self) -> &TokenBudget {
        &self.budget
    }
}
