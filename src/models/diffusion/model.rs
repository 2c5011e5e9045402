//! What a family of generators has of its own: the one [`Pipeline`](super::pipeline::Pipeline) is made of these.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::autoencoder_kl;
use super::guidance::Ways;
use super::lora::{self, Index, Lora};
use super::pipeline_part::Part;
use super::pipeline_source::PipelineSource;
use super::single_file::SingleFileLayout;
use super::steps::{CaptureSlot, Conditioned, Denoiser, DenoisingSteps};
use crate::models::{GenerateRequest, Generated, LoraChoice, Outline};
use crate::nn::Library;
use crate::prompts::TokenBudget;
use crate::runtime::Precision;
use crate::schedulers::Solver;

/// What a family's configuration files say of a request.
pub trait PipelineOutline: Outline + Sized {
    fn read(source: PipelineSource) -> Result<Self>;

    fn source(&self) -> &PipelineSource;

    fn vae(&self) -> &autoencoder_kl::Config;

    /// Width of the heads of its [long attention](crate::nn::with_long_attention); none without.
    fn long_attention_head(&self) -> Option<i64> {
        None
    }

    /// Channels of the latents.
    fn latent_channels(&self) -> i64;

    /// The layers that low-rank adapters may change; reads no weights.
    fn adapted_layers(&self) -> Result<Index>;

    /// These low-rank adapters, which fit the generator.
    fn loras(&self, choices: &[LoraChoice]) -> Result<Vec<Lora>> {
        if choices.is_empty() { Ok(Vec::new()) } else { lora::open(choices, &self.adapted_layers()?) }
    }

    /// Refuses what this family cannot do, whatever the size and the steps are.
    fn check_family(&self, request: &GenerateRequest) -> Result<()>;

    /// Width and height of picture `i` in latent places, checked.
    fn latent_size(&self, request: &GenerateRequest, i: usize) -> Result<(i64, i64)>;

    /// Denoising steps, those that a photo spares included.
    fn steps(&self, request: &GenerateRequest) -> usize;

    /// How far a photo is left.
    fn strength(&self, request: &GenerateRequest) -> f64;

    /// The name of the request's solver.
    fn sampler(&self, request: &GenerateRequest) -> &'static str;

    /// The solver of this request, for pictures of so many latent places, and where in its timesteps the drawing starts.
    fn solver(&self, request: &GenerateRequest, size: (i64, i64)) -> Result<(Box<dyn Solver>, usize)>;

    /// What [`Outline::check`] is made of.
    fn check_request(&self, request: &GenerateRequest) -> Result<()> {
        request.check()?;
        self.check_family(request)?;
        self.loras(&request.loras)?;
        let size = self.latent_size(request, 0)?;
        (1..request.prompts.len()).try_for_each(|i| self.latent_size(request, i).map(drop))?;
        self.solver(request, size).map(drop)
    }
}

/// The networks of a family, and how they work together. The autoencoder is the pipeline's.
pub trait DiffusionModel: Sized + 'static {
    /// How it is called in messages.
    const TITLE: &'static str;
    /// Number type on a GPU, unless another one is asked for.
    const DTYPE: Kind;
    /// Guidance scale where none is asked for.
    const GUIDANCE: f64;
    const VAE: Part;
    const SINGLE_FILE: &'static SingleFileLayout;
    /// Whether its noise schedule can be walked by another solver than the checkpoint's own.
    const TAKES_SCHEDULERS: bool;
    /// Whether the linear layers of its denoiser can be in float8.
    const TAKES_FLOAT8: bool = false;

    type Outline: PipelineOutline + 'static;
    /// Encoded texts, a row each.
    type Texts;
    type Denoiser: Denoiser;
    /// What steers a drawing beside texts.
    type Control;

    /// On a GPU a network may still be read when this is done (see [`Self::settle`]).
    fn open(outline: Self::Outline, device: Device, precision: Precision) -> Result<Self>;

    /// The same model with a denoiser of its own on another device, for half of the guidance; texts are encoded where
    /// they were.
    fn on_second(&self, device: Device) -> Result<Self>;

    fn outline(&self) -> &Self::Outline;

    /// The autoencoder's number type, where the pipeline's is `kind`.
    fn vae_kind(_outline: &Self::Outline, kind: Kind) -> Kind {
        kind
    }

    /// The limit that the text encoders set.
    fn budget(&self) -> Result<TokenBudget>;

    /// Computes a little with networks like those that read texts, which has a GPU load what they need (see
    /// [`Self::rehearse_pictures`]).
    fn rehearse_texts(outline: &Self::Outline, device: Device, kind: Kind) -> Result<()> {
        let _ = outline;
        [Library::Products, Library::Norms].into_iter().for_each(|library| library.use_once(device, kind));
        Ok(())
    }

    /// The same with those that draw. Both happen in one thread while weights are read, where there is room on the device.
    fn rehearse_pictures(_outline: &Self::Outline, _device: Device, _precision: Precision) -> Result<()> {
        Ok(())
    }

    /// Waits for networks that are still being read.
    ///
    /// # Errors
    /// When they cannot be read.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Merges these low-rank adapters, and no others, into the weights of its networks.
    fn adapt(&self, loras: Vec<Lora>) -> Result<()>;

    /// Texts as the denoiser reads them; each is encoded once for the life of the model.
    fn encode(&self, texts: &[String]) -> Result<Self::Texts>;

    /// Forgets encoded texts, so that encoding can be timed again.
    fn forget_texts(&self);

    /// Sees to it that there is room on the device for so many pictures of this size.
    fn make_room(&self, _pictures: usize, _size: (i64, i64)) -> Result<()> {
        Ok(())
    }

    /// What steers the drawing of a request, for pictures of this size in latent places.
    fn control(&self, request: &GenerateRequest, size: (i64, i64)) -> Result<Self::Control>;

    /// The denoiser, and all that it knows before the first step. With guidance the first of `texts` is what is unwanted
    /// in all pictures (see `Ways::rows`). The texts may be on another device.
    fn condition(
        &self,
        texts: &Self::Texts,
        ways: Ways,
        times: &[f64],
        control: &Self::Control,
    ) -> Result<Conditioned<Self::Denoiser>>;

    /// What an earlier drawing left for the denoiser's steps.
    fn capture(&self) -> &CaptureSlot<Self::Denoiser>;

    /// One step, to the output with guidance: latents [batch, channels, height, width] → as large, valid until the next
    /// step.
    fn predict(
        steps: &mut DenoisingSteps<Self::Denoiser>,
        latents: &Tensor,
        step: usize,
        guidance: Option<f64>,
    ) -> Result<Tensor>;

    /// Does the denoising loop.
    fn while_denoising<T>(work: impl FnOnce() -> T) -> T {
        work()
    }

    /// Builds what is otherwise built only when it is asked for, so that it can be verified.
    fn build_rest(&self) -> Result<()> {
        Ok(())
    }

    /// Says before anything is drawn what would stand in the way of [`Self::review`].
    fn check_review(&self, _request: &GenerateRequest) -> Result<()> {
        Ok(())
    }

    /// Looks at the finished pictures.
    fn review(&self, _request: &GenerateRequest, drawn: Vec<Generated>) -> Result<Vec<Generated>> {
        Ok(drawn)
    }
}
