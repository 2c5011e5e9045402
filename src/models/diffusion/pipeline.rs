//! The one denoising pipeline of all generators: from a request to pictures. What a family has of its own (texts,
//! denoiser, guidance, schedule) is its [`DiffusionModel`]; nothing here knows which family it serves.

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::autoencoder_kl::AutoencoderKl;
use super::first_latents::{encode_photos, first_draws};
use super::float32_fallback::{self, Decoded, Float32Fallback};
use super::guided_steps::GuidedSteps;
use super::loading::Loading;
use super::model::{DiffusionModel, PipelineOutline};
use super::pipeline_source::PipelineSource;
use super::step_noise::StepNoise;
use crate::error::usage;
use crate::models::text::text_tokenizer::clip_budget;
use crate::models::{
    GenerateRequest, Generated, Generator, GeneratorTask, LoraChoice, Outline, PhasedGenerator, Settled, Task,
};
use crate::prompts::TokenBudget;
use crate::runtime::{Coming, Precision, Runtime, log_moment};
use crate::schedulers::Solver;

/// A photo is called large when it has this many times the places that the model was trained on.
const LARGE: i64 = 6;

/// A batch of pictures of one size, ready for the denoising loop.
pub struct Job<M: DiffusionModel> {
    texts: M::Texts,
    control: M::Control,
    /// The same for the device that computes the unwanted half.
    second_control: Option<M::Control>,
    /// None = without guidance.
    guidance: Option<f64>,
    latents: Tensor,
    solver: Box<dyn Solver>,
    /// Where in the solver's timesteps the drawing starts.
    first: usize,
    noise: StepNoise,
}

/// A request that was checked, whose pictures draw their noise.
struct Begun {
    size: (i64, i64),
    solver: Box<dyn Solver>,
    first: usize,
    /// See [`first_draws`].
    draws: Coming<Vec<Tensor>>,
}

impl<M: DiffusionModel> Job<M> {
    /// Denoising steps.
    pub fn steps(&self) -> usize {
        self.solver.timesteps().len() - self.first
    }
}

/// A generator that is ready to draw.
#[derive(Debug)]
pub struct Pipeline<M> {
    pub(super) model: M,
    /// What computes the unwanted half of guidance on another device.
    pub(super) second: Option<(M, Device)>,
    vae: AutoencoderKl,
    device: Device,
    kind: Kind,
    vae_kind: Kind,
    /// Number type that noise is drawn in: the stream of numbers depends on it.
    pub(super) noise_kind: Kind,
    budget: TokenBudget,
    /// Where its weights come from, in messages.
    origin: String,
    loading: Loading,
    /// The low-rank adapters that are in the weights; None while that is not known.
    adapted: RefCell<Option<Vec<LoraChoice>>>,
}

impl<M: DiffusionModel> Pipeline<M> {
    /// What the family's row says of it.
    pub const TASK: Task = Task::Generate(GeneratorTask {
        load: |path, rt| Ok(Box::new(Self::load(path, rt)?)),
        random: |name, rt| Ok(Box::new(Self::random(name, rt)?)),
        outline: |path| Ok(Box::new(M::Outline::read(Self::source(path))?)),
        random_outline: |name| Ok(Box::new(M::Outline::read(Self::published(name))?)),
        budget: |path| Ok(clip_budget(&Self::source(path).clip_tokenizers()?)),
        verify: |path, rt| {
            let whole = Self::load(path, rt)?;
            whole.settle().and_then(|()| whole.model.build_rest())
        },
        takes_schedulers: M::TAKES_SCHEDULERS,
        takes_float8: M::TAKES_FLOAT8,
    });

    fn source(path: &Path) -> PipelineSource {
        PipelineSource::at(path, M::SINGLE_FILE)
    }

    /// From a folder in diffusers' layout, or from one file of the original layout.
    pub fn load(path: &Path, rt: &Runtime) -> Result<Self> {
        let origin = format!("loading {} from {}", M::TITLE, path.display());
        let opened =
            Self::open(Self::source(path), rt.device, rt.precision(M::DTYPE)).with_context(|| origin.clone())?;
        Ok(Self { origin, ..opened })
    }

    /// At the size of the published model of this name, with random weights: to measure speed.
    pub fn random(name: &str, rt: &Runtime) -> Result<Self> {
        let opened = Self::open(Self::published(name), rt.device, rt.precision(M::DTYPE))?;
        opened.settle()?;
        Ok(opened)
    }

    fn published(name: &str) -> PipelineSource {
        PipelineSource::random(M::SINGLE_FILE.published_as(name))
    }

    pub(super) fn open(source: PipelineSource, device: Device, precision: impl Into<Precision>) -> Result<Self> {
        let precision = precision.into();
        let kind = precision.kind;
        if precision.float8 && !M::TAKES_FLOAT8 {
            return Err(usage(format!("--precision fp8: {} has no layers in float8", M::TITLE)));
        }
        let outline = M::Outline::read(source)?;
        let vae_kind = M::vae_kind(&outline, kind);
        let loading = Loading::begin::<M>(outline.source(), outline.long_attention_head(), device, precision);
        let model = M::open(outline, device, precision)?;
        let vae = load_vae::<M>(model.outline(), device, vae_kind)?;
        let budget = model.budget()?;
        Ok(Self {
            model,
            second: None,
            vae,
            device,
            kind,
            vae_kind,
            noise_kind: kind,
            budget,
            origin: format!("loading {}", M::TITLE),
            loading,
            adapted: RefCell::new(Some(Vec::new())),
        })
    }

    /// Draws noise in another number type from now on. The stream of numbers depends on it: with one for all, number types
    /// can be compared on the same pictures.
    pub fn draw_noise_in(&mut self, kind: Kind) {
        self.noise_kind = kind;
    }

    /// Where denoising starts: noise, or photos with noise.
    fn first_latents(
        &self,
        request: &GenerateRequest,
        draws: Vec<Tensor>,
        size: (i64, i64),
        solver: &dyn Solver,
        first: usize,
    ) -> Result<Tensor> {
        let here = |draw: &Tensor| draw.to_device(self.device).to_kind(self.kind);
        Ok(match draws.iter().map(here).collect::<Vec<_>>().as_slice() {
            // The autoencoder's draw comes before that of the noise.
            [of_latents, noise] => {
                let scale = self.model.outline().vae().scale_factor();
                let pixels = (size.0 * scale, size.1 * scale);
                let photos = encode_photos((&self.vae, self.vae_kind), &request.images, pixels, of_latents)?;
                solver.add_noise(&photos, noise, first)
            }
            noise => &noise[0] * solver.init_noise_sigma(),
        })
    }

    /// Of one picture.
    fn latent_shape(&self, (width, height): (i64, i64)) -> [i64; 4] {
        [1, self.model.outline().latent_channels(), height, width]
    }

    /// None = without guidance.
    fn guidance(request: &GenerateRequest) -> Option<f64> {
        Some(request.guidance_scale.unwrap_or(M::GUIDANCE)).filter(|&guidance| guidance > 1.0)
    }

    /// The model on the second device, where there is one and guidance needs it.
    fn second_for(&self, guidance: Option<f64>) -> Option<&(M, Device)> {
        self.second.as_ref().filter(|_| guidance.is_some())
    }

    /// Texts as the denoiser reads them, a row each.
    pub fn encode(&self, texts: &[String]) -> Result<M::Texts> {
        self.loading.wait_for_texts();
        self.model.encode(texts)
    }

    /// Puts these low-rank adapters into the weights, where others are there or none.
    fn adapt_to(&self, loras: &[LoraChoice]) -> Result<()> {
        if self.adapted.borrow().as_deref() == Some(loras) {
            return Ok(());
        }
        let outline = self.model.outline();
        *self.adapted.borrow_mut() = None;
        self.model.adapt(outline.loras(loras)?)?;
        if let Some((second, _)) = &self.second {
            second.adapt(outline.loras(loras)?)?;
        }
        *self.adapted.borrow_mut() = Some(loras.to_vec());
        Ok(())
    }

    /// All texts of a request in one call, since the encoders may have to come to the device for it: with guidance what is
    /// unwanted first.
    fn encode_request(&self, request: &GenerateRequest) -> Result<M::Texts> {
        let unwanted = Self::guidance(request).map(|_| request.negative_prompt.clone().unwrap_or_default());
        let texts: Vec<String> = unwanted.into_iter().chain(request.prompts.iter().cloned()).collect();
        // Of many texts the encoding is captured, beside which nothing should load.
        if texts.len() > 2 {
            self.settle()?;
        }
        self.loading.wait_for_texts();
        log_moment("the libraries for texts are here");
        self.model.encode(&texts)
    }

    /// Everything that is known before the first step. All pictures of the request must be of one size.
    pub fn prepare(&self, request: &GenerateRequest) -> Result<Job<M>> {
        self.prepare_rest(request, self.begin(request)?)
    }

    /// Checks the request. While texts are read, a thread draws the noise: 6 ms for a large picture in 16 bits.
    fn begin(&self, request: &GenerateRequest) -> Result<Begun> {
        request.check()?;
        let outline = self.model.outline();
        outline.check_family(request)?;
        let size = outline.latent_size(request, 0)?;
        let (solver, first) = outline.solver(request, size)?;
        let (seeds, count) = (request.seeds.clone(), draws_before_steps(request));
        let (shape, kind) = (self.latent_shape(size), self.noise_kind);
        let draws = Coming::start(move || first_draws(&seeds, count, &shape, kind));
        Ok(Begun { size, solver, first, draws })
    }

    fn prepare_rest(&self, request: &GenerateRequest, begun: Begun) -> Result<Job<M>> {
        let Begun { size, solver, first, draws } = begun;
        self.adapt_to(&request.loras)?;
        let texts = self.encode_request(request)?;
        log_moment("the texts are encoded");
        self.settle()?;
        log_moment("all is loaded");
        self.model.make_room(request.prompts.len(), size)?;
        let guidance = Self::guidance(request);
        let control = self.model.control(request, size)?;
        let second_control = self.second_for(guidance).map(|(second, _)| second.control(request, size)).transpose()?;
        let latents = self.first_latents(request, draws.take()?, size, solver.as_ref(), first)?;
        let noise = StepNoise {
            seeds: request.seeds.clone(),
            shape: self.latent_shape(size),
            before: draws_before_steps(request),
            steps: solver.timesteps().len() - first,
            drawn_in: self.noise_kind,
            kind: self.kind,
            device: self.device,
            drawn: None,
            next: 0,
        };
        Ok(Job { texts, control, second_control, guidance, latents, solver, first, noise })
    }

    /// The denoising loop, to the latents of the pictures. Nothing in it waits for the device.
    pub fn denoise(&self, job: Job<M>) -> Result<Tensor> {
        let Job { texts, control, second_control, guidance, mut latents, mut solver, first, mut noise } = job;
        let timesteps = solver.timesteps()[first..].to_vec();
        let second = self.second_for(guidance).zip(second_control.as_ref());
        let second = second.map(|((model, device), control)| (model, control, *device));
        let mut steps = GuidedSteps::new(&self.model, second, &texts, guidance, &timesteps, &control)?;
        M::while_denoising(|| {
            for step in 0..timesteps.len() {
                let index = first + step;
                let input = solver.scale_model_input(&latents, index);
                let output = steps.predict(&input, step)?;
                latents = solver.step(&output, index, &latents, &mut || noise.next())?;
                if step == 0 {
                    log_moment("the device has the first step");
                }
            }
            Ok(latents)
        })
    }

    /// Pictures of one size together, then those of the next: what is drawn from a photo does not depend on the photos
    /// beside it.
    fn draw(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        request.check()?;
        let size = |i| self.model.outline().latent_size(request, i);
        let sizes: Vec<(i64, i64)> = (0..request.prompts.len()).map(size).collect::<Result<_>>()?;
        self.warn_of_size(request, &sizes);
        if sizes.windows(2).all(|pair| pair[0] == pair[1]) {
            return self.draw_alike(request);
        }
        let mut drawn: Vec<(usize, Generated)> = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            if sizes[..i].contains(size) {
                continue;
            }
            let rows: Vec<usize> = (i..sizes.len()).filter(|&row| sizes[row] == *size).collect();
            let alike = self.draw_alike(&request.only(&rows))?;
            drawn.extend(rows.into_iter().zip(alike));
        }
        drawn.sort_by_key(|(row, _)| *row);
        Ok(drawn.into_iter().map(|(_, generated)| generated).collect())
    }

    /// Pictures of one size.
    fn draw_alike(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        let latents = self.denoise(self.prepare(request)?)?;
        log_moment("the device has all steps");
        let drawn = float32_fallback::finish(self, request, &latents)?;
        log_moment("the pictures are drawn");
        Ok(drawn)
    }

    fn warn_of_size(&self, request: &GenerateRequest, sizes: &[(i64, i64)]) {
        let (own_width, own_height) = self.own_size();
        let own = (own_width * own_height) as i64;
        let (scale, asked) =
            (self.model.outline().vae().scale_factor(), request.width.is_some() || request.height.is_some());
        let places = |&&(w, h): &&(i64, i64)| w * h * scale * scale;
        if let Some((w, h)) = sizes.iter().max_by_key(places).filter(|size| places(size) > LARGE * own)
            && !asked
        {
            tracing::warn!(
                "{}×{} pixels are drawn, as many as the photo has, by a model of {own_width}×{own_height}: a smaller \
                 --width and --height are much faster and mostly look better",
                w * scale,
                h * scale
            );
        }
    }
}

fn load_vae<M: DiffusionModel>(outline: &M::Outline, device: Device, kind: Kind) -> Result<AutoencoderKl> {
    outline.source().build(M::VAE, device, kind, |weights| AutoencoderKl::new(weights, outline.vae()))
}

/// What each picture's generator draws before the first step: noise, and with photos a draw of their latents.
fn draws_before_steps(request: &GenerateRequest) -> usize {
    if request.images.is_empty() { 1 } else { 2 }
}

impl<M: DiffusionModel> Float32Fallback for Pipeline<M> {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn decode(&self, latents: &Tensor) -> Decoded {
        self.vae.pictures(latents, self.vae_kind)
    }

    fn decode_in_float32(&self, latents: &Tensor) -> Result<Decoded> {
        Ok(load_vae::<M>(self.model.outline(), self.device, Kind::Float)?.pictures(latents, Kind::Float))
    }

    fn draw_in_float32(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        let mut whole = Self::open(self.model.outline().source().clone(), self.device, Kind::Float)?;
        whole.noise_kind = self.noise_kind;
        whole.draw(request)
    }
}

impl<M: DiffusionModel> Generator for Pipeline<M> {
    fn generate(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        if request.prompts.is_empty() {
            return Ok(Vec::new());
        }
        tch::no_grad(|| {
            self.model.check_review(request)?;
            self.model.review(request, self.draw(request)?)
        })
    }

    fn settle(&self) -> Result<()> {
        self.loading.settle(&self.model, &self.origin)
    }

    fn own_size(&self) -> (usize, usize) {
        self.model.outline().own_size()
    }

    fn share_guidance(&mut self, device: Device) -> Result<()> {
        self.second = Some((self.model.on_second(device)?, device));
        *self.adapted.borrow_mut() = None;
        Ok(())
    }

    fn settled(&self, request: &GenerateRequest, at: usize) -> Result<Settled> {
        let outline = self.model.outline();
        let (width, height) = outline.latent_size(request, at)?;
        let pixels = |places: i64| (places * outline.vae().scale_factor()) as usize;
        Ok(Settled {
            steps: outline.steps(request),
            guidance_scale: request.guidance_scale.unwrap_or(M::GUIDANCE),
            strength: (!request.images.is_empty()).then(|| outline.strength(request)),
            sampler: outline.sampler(request),
            width: pixels(width),
            height: pixels(height),
        })
    }

    fn token_budget(&self) -> &TokenBudget {
        &self.budget
    }
}

impl<M: DiffusionModel> PhasedGenerator for Pipeline<M> {
    fn dtype(&self) -> Kind {
        self.kind
    }

    fn adapt(&self, loras: &[LoraChoice]) -> Result<()> {
        self.adapt_to(loras)
    }

    fn draw_in_phases(&self, request: &GenerateRequest, lap: &mut dyn FnMut()) -> Result<usize> {
        tch::no_grad(|| {
            self.model.forget_texts();
            lap();
            let begun = self.begin(request)?;
            self.encode_request(request)?;
            lap();
            let job = self.prepare_rest(request, begun)?;
            lap();
            let steps = job.steps();
            let latents = self.denoise(job)?;
            lap();
            let (pictures, _) = self.decode(&latents);
            let _on_the_host = pictures.f_to_device(Device::Cpu)?;
            lap();
            Ok(steps)
        })
    }
}
