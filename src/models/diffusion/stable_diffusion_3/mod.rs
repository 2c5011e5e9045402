//! Stable Diffusion 3: text to picture, and photo to picture.
//!
//! The pipelines are those of
//! <https://github.com/huggingface/diffusers/tree/main/src/diffusers/pipelines/stable_diffusion_3>:
//! the same seed gives the same picture.

mod block;
mod config;
pub mod mmdit;
mod outline;
mod prompt_encoding;
mod redraw;
mod steps;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use self::config::{TRANSFORMER, VAE};
use self::mmdit::Mmdit;
pub(in crate::models) use self::outline::Sd3Outline;
pub use self::prompt_encoding::Embeddings;
use self::prompt_encoding::PromptEncoder;
use self::steps::Steps;
use super::autoencoder_kl::AutoencoderKl;
use super::pipeline_part::STABLE_DIFFUSION_3;
use super::pipeline_source::Source;
use super::rescue;
use crate::images::{self, Filter};
use crate::models::{GenerateRequest, Generated, Generator, Outline};
use crate::nn::with_long_attention;
use crate::prompts::TokenBudget;
use crate::runtime::{self, Runtime};
use crate::schedulers::Schedule;

/// Default of the pipelines.
const GUIDANCE: f64 = 7.0;

/// Device memory that drawing takes besides the weights: for one picture of 1024², and for each more.
const WORKING_BYTES: u64 = 4 << 30;
const PICTURE_BYTES: u64 = 1 << 30;
/// Latent places of a picture of 1024².
const PUBLISHED_PLACES: u64 = 128 * 128;

/// A batch of pictures, ready for the denoising loop.
#[derive(Debug)]
pub struct Job {
    positive: Embeddings,
    /// One row for all pictures; None = without guidance.
    negative: Option<Embeddings>,
    latents: Tensor,
    schedule: Schedule,
    guidance: f64,
}

impl Job {
    /// Denoising steps.
    pub fn steps(&self) -> usize {
        self.schedule.steps()
    }
}

/// The pipeline.
#[derive(Debug)]
pub struct StableDiffusion3 {
    outline: Sd3Outline,
    device: Device,
    kind: Kind,
    /// Number type that noise is drawn in: the stream of numbers depends on it.
    noise_kind: Kind,
    budget: TokenBudget,
    prompts: PromptEncoder,
    /// Whether encoders and denoiser are on the device together; if not, each comes when needed.
    roomy: bool,
    transformer: RefCell<Option<Rc<Mmdit>>>,
    /// The recorded step of the last batch. It goes with the transformer.
    spare: RefCell<Option<Steps>>,
    vae: RefCell<Option<Rc<AutoencoderKl>>>,
}

impl StableDiffusion3 {
    /// From a folder in diffusers' layout, or from one file of the original layout.
    pub fn load(path: &Path, rt: &Runtime) -> Result<Self> {
        let open = |source| Self::open(source, rt.device, rt.kind(Kind::BFloat16));
        Source::at(path).and_then(open).with_context(|| format!("loading Stable Diffusion 3 from {}", path.display()))
    }

    /// At the published size, with random weights: to measure speed.
    pub fn random(rt: &Runtime) -> Result<Self> {
        Self::open(Source::Random(STABLE_DIFFUSION_3), rt.device, rt.kind(Kind::BFloat16))
    }

    fn open(source: Source, device: Device, kind: Kind) -> Result<Self> {
        let outline = Sd3Outline::read(source)?;
        let mmdit::Config { joint_attention_dim, pooled_projection_dim, .. } = outline.transformer;
        let prompts = PromptEncoder::new(&outline.source, device, kind, joint_attention_dim, pooled_projection_dim)?;
        let budget = prompts.budget();
        let (transformer, spare, vae) = (RefCell::default(), RefCell::default(), RefCell::default());
        let mut pipeline =
            Self { outline, device, kind, noise_kind: kind, budget, prompts, roomy: true, transformer, spare, vae };
        let all = pipeline.prompts.bytes()? + pipeline.outline.source.bytes(TRANSFORMER, kind)?;
        pipeline.roomy = runtime::free_memory(device).is_none_or(|free| free > all + WORKING_BYTES);
        if pipeline.roomy {
            pipeline.prompts.load()?;
        } else {
            tracing::info!("device memory is short: text encoders and denoiser take turns on it");
        }
        pipeline.transformer()?;
        pipeline.vae()?;
        Ok(pipeline)
    }

    /// The size that is drawn where none is asked for: one side in pixels.
    pub fn default_size(&self) -> i64 {
        self.outline.default_size()
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    fn transformer(&self) -> Result<Rc<Mmdit>> {
        lazy(&self.transformer, || {
            self.outline
                .source
                .build(TRANSFORMER, self.device, self.kind, |weights| Mmdit::new(weights, &self.outline.transformer))
        })
    }

    fn vae(&self) -> Result<Rc<AutoencoderKl>> {
        lazy(&self.vae, || self.load_vae(self.kind))
    }

    fn load_vae(&self, kind: Kind) -> Result<AutoencoderKl> {
        self.outline.source.build(VAE, self.device, kind, |weights| AutoencoderKl::new(weights, &self.outline.vae))
    }

    /// Texts as the denoiser reads them. Where device memory is short, the denoiser makes room for
    /// the encoders, and they leave when they are done.
    pub fn encode(&self, texts: &[String]) -> Result<Embeddings> {
        if self.prompts.needs_encoders(texts) && !self.prompts.is_loaded() {
            let needed = self.prompts.bytes()? + WORKING_BYTES / 2;
            if runtime::free_memory(self.device).is_some_and(|free| free < needed) {
                *self.spare.borrow_mut() = None;
                *self.transformer.borrow_mut() = None;
                runtime::shim::empty_cache();
            }
            self.prompts.load()?;
        }
        let embeddings = self.prompts.encode(texts)?;
        if !self.roomy {
            self.unload_encoders();
        }
        Ok(embeddings)
    }

    fn unload_encoders(&self) {
        if self.prompts.is_loaded() {
            self.prompts.unload();
            runtime::shim::empty_cache();
        }
    }

    /// Sends the encoders away where there is room beside them for one picture, but not for so many or so large ones.
    fn make_room(&self, pictures: usize, (width, height): (i64, i64)) -> Result<()> {
        let Some(free) = runtime::free_memory(self.device) else { return Ok(()) };
        let denoiser =
            if self.transformer.borrow().is_some() { 0 } else { self.outline.source.bytes(TRANSFORMER, self.kind)? };
        let places = pictures as u64 * (width * height) as u64;
        let working = WORKING_BYTES + (PICTURE_BYTES * places / PUBLISHED_PLACES).saturating_sub(PICTURE_BYTES);
        if free < denoiser + working {
            self.unload_encoders();
        }
        Ok(())
    }

    /// Forgets encoded prompts, so that encoding can be timed again.
    pub fn forget_prompts(&self) {
        self.prompts.forget();
    }

    /// Where denoising starts: noise, or photos with noise. Each picture draws from its own generator.
    fn start(&self, request: &GenerateRequest, size: (i64, i64), schedule: &Schedule) -> Result<Tensor> {
        let shape = [1, self.outline.transformer.in_channels, size.1, size.0];
        let scale = self.outline.vae.scale_factor();
        let mut latents = Vec::new();
        for (i, &seed) in request.seeds.iter().enumerate() {
            // With a photo, the draw of the autoencoder's latents comes before that of the noise.
            let draws = if request.images.is_empty() { 1 } else { 2 };
            let draws = runtime::seeded_normal(seed, draws, &shape, self.noise_kind);
            let draws: Vec<Tensor> = draws.iter().map(|draw| draw.to_device(self.device).to_kind(self.kind)).collect();
            let Some(photo) = request.images.get(i) else {
                latents.push(draws[0].shallow_clone());
                continue;
            };
            let photo = images::resize(photo, (size.0 * scale) as u32, (size.1 * scale) as u32, Filter::Lanczos);
            let pixels = images::to_tensor(&photo).to_device(self.device).to_kind(Kind::Float).unsqueeze(0);
            let pixels = (pixels / 255.0 * 2.0 - 1.0).to_kind(self.kind);
            let vae = self.vae()?;
            let encoded = vae.scale(&vae.encode(&pixels).sample(&draws[0]));
            latents.push(schedule.add_noise(&encoded, &draws[1]));
        }
        Ok(Tensor::cat(&latents, 0))
    }

    /// Everything that is known before the first step.
    pub fn prepare(&self, request: &GenerateRequest) -> Result<Job> {
        self.outline.check_family(request)?;
        let size = self.outline.latent_size(request)?;
        let schedule = self.outline.schedule(request, size)?;
        let guidance = request.guidance_scale.unwrap_or(GUIDANCE);
        let guided = guidance > 1.0;
        // One call for all texts: the encoders may have to come to the device for it.
        let unwanted = if guided { vec![request.negative_prompt.clone().unwrap_or_default()] } else { Vec::new() };
        let all = self.encode(&[unwanted, request.prompts.clone()].concat())?;
        self.make_room(request.prompts.len(), size)?;
        let rows = |from: i64, count: i64| Embeddings {
            prompt: all.prompt.narrow(0, from, count),
            pooled: all.pooled.narrow(0, from, count),
        };
        let positive = rows(i64::from(guided), request.prompts.len() as i64);
        let negative = guided.then(|| rows(0, 1));
        let latents = self.start(request, size, &schedule)?;
        Ok(Job { positive, negative, latents, schedule, guidance })
    }

    /// The denoising loop, to the latents of the pictures. Nothing in it waits for the device.
    pub fn denoise(&self, job: &Job) -> Result<Tensor> {
        let (transformer, negative) = (self.transformer()?, job.negative.as_ref());
        let both = |of: fn(&Embeddings) -> &Tensor| match negative {
            Some(negative) => {
                Tensor::cat(&[of(negative).expand_as(of(&job.positive)), of(&job.positive).shallow_clone()], 0)
            }
            None => of(&job.positive).shallow_clone(),
        };
        let conditioning = transformer.condition(&both(|e| &e.prompt), &both(|e| &e.pooled), &job.schedule.timesteps);
        let guidance = negative.map(|_| job.guidance);
        with_long_attention(|| {
            let mut steps = Steps::new(self.spare.take(), &job.latents, &conditioning.context, guidance);
            let mut latents = job.latents.shallow_clone();
            for step in 0..job.schedule.steps() {
                let velocity = steps.velocity(&transformer, &latents, &conditioning.modulations.get(step as i64))?;
                latents = job.schedule.step(step, &latents, &velocity);
            }
            self.spare.replace(Some(steps));
            Ok(latents)
        })
    }

    /// Pictures as bytes, and whether each is all numbers, on the device:
    /// uint8 [batch, 3, height, width] and bool `[batch]`.
    pub fn decode(&self, latents: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(self.vae()?.pictures(latents, self.kind))
    }

    fn draw(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        let latents = self.denoise(&self.prepare(request)?)?;
        rescue::finish(self, request, &latents)
    }
}

impl Generator for StableDiffusion3 {
    fn generate(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        if request.prompts.is_empty() {
            return Ok(Vec::new());
        }
        tch::no_grad(|| self.draw(request))
    }

    fn own_size(&self) -> (usize, usize) {
        self.outline.own_size()
    }

    fn token_budget(&self) -> &TokenBudget {
        &self.budget
    }
}

/// What `slot` holds, loaded if it holds nothing.
fn lazy<T>(slot: &RefCell<Option<Rc<T>>>, load: impl FnOnce() -> Result<T>) -> Result<Rc<T>> {
    if let Some(here) = slot.borrow().as_ref() {
        return Ok(here.clone());
    }
    let loaded = Rc::new(load()?);
    *slot.borrow_mut() = Some(loaded.clone());
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mini_with_t5() -> StableDiffusion3 {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sd3/with_t5");
        StableDiffusion3::open(Source::Folder(folder), Device::Cpu, Kind::Float).unwrap()
    }

    fn cats(count: usize) -> GenerateRequest {
        GenerateRequest {
            prompts: vec!["a cat".to_string(); count],
            seeds: (3..3 + count as u64).collect(),
            steps: Some(2),
            ..GenerateRequest::default()
        }
    }

    fn pictures(pipeline: &StableDiffusion3, request: &GenerateRequest) -> Vec<image::RgbImage> {
        pipeline.generate(request).unwrap().into_iter().map(|drawn| drawn.image).collect()
    }

    /// Short memory, acted out on the CPU: the encoders come for new texts only, leave when they are
    /// done, and the picture is the same.
    #[test]
    fn encoders_take_turns_where_memory_is_short() {
        let roomy = mini_with_t5();
        let weights = roomy.prompts.bytes().unwrap() + roomy.outline.source.bytes(TRANSFORMER, roomy.kind).unwrap();
        let request = cats(1);
        let expected = pictures(&roomy, &request);
        assert!(roomy.prompts.is_loaded());
        let texts = [request.prompts.as_slice(), &[String::new()]].concat();
        for free in [0, weights + WORKING_BYTES] {
            runtime::acted_free(Some(free));
            let short = mini_with_t5();
            assert!(!short.roomy && !short.prompts.is_loaded() && short.prompts.needs_encoders(&texts));
            for _ in 0..2 {
                assert_eq!(pictures(&short, &request), expected);
                assert!(!short.prompts.is_loaded());
                assert!(!short.prompts.needs_encoders(&texts), "encoded once");
            }
        }
        runtime::acted_free(Some(weights + WORKING_BYTES + 1));
        assert!(mini_with_t5().roomy);
    }

    /// Room for one picture beside the encoders, but not for two of the published size: they leave for these alone.
    #[test]
    fn encoders_make_room_for_a_large_batch() {
        let (pipeline, expected) = (mini_with_t5(), pictures(&mini_with_t5(), &cats(2)));
        runtime::acted_free(Some(WORKING_BYTES + PICTURE_BYTES / 2));
        assert_eq!(pictures(&pipeline, &cats(2)), expected);
        assert!(pipeline.prompts.is_loaded(), "small pictures need less than one of 1024²");
        pipeline.make_room(1, (128, 128)).unwrap();
        assert!(pipeline.prompts.is_loaded());
        pipeline.make_room(2, (128, 128)).unwrap();
        assert!(!pipeline.prompts.is_loaded());
        pipeline.forget_prompts();
        assert_eq!(pictures(&pipeline, &cats(2)), expected, "they come back for new texts");
    }
}
