//! What the configuration files of a Stable Diffusion 3 pipeline say of a request, without any weights.

use anyhow::Result;

use super::adapters;
use super::config::{TRANSFORMER, VAE};
use super::mmdit;
use crate::error::usage;
use crate::models::diffusion::autoencoder_kl;
use crate::models::diffusion::lora::Index;
use crate::models::diffusion::model::PipelineOutline;
use crate::models::diffusion::pipeline_source::PipelineSource;
use crate::models::{GenerateRequest, Outline};
use crate::schedulers::{FlowMatchEuler, Solver, flow_match_first_step};

/// Defaults of the pipelines.
const STEPS: usize = 28;
const STEPS_FROM_PHOTO: usize = 50;
const STRENGTH: f64 = 0.6;

/// The configurations of a pipeline.
#[derive(Debug)]
pub struct Sd3Outline {
    pub source: PipelineSource,
    pub transformer: mmdit::Config,
    pub vae: autoencoder_kl::Config,
    pub scheduler: FlowMatchEuler,
}

impl Sd3Outline {
    /// The size that is drawn where none is asked for: one side in pixels.
    fn default_size(&self) -> i64 {
        self.transformer.sample_size * self.vae.scale_factor()
    }
}

impl Outline for Sd3Outline {
    fn own_size(&self) -> (usize, usize) {
        (self.default_size() as usize, self.default_size() as usize)
    }

    fn check(&self, request: &GenerateRequest) -> Result<()> {
        self.check_request(request)
    }
}

impl PipelineOutline for Sd3Outline {
    fn read(source: PipelineSource) -> Result<Self> {
        let transformer = source.config(TRANSFORMER.folder)?;
        let vae = source.config(VAE.folder)?;
        let scheduler = FlowMatchEuler::new(source.config("scheduler")?)?;
        Ok(Self { source, transformer, vae, scheduler })
    }

    fn source(&self) -> &PipelineSource {
        &self.source
    }

    fn vae(&self) -> &autoencoder_kl::Config {
        &self.vae
    }

    fn long_attention_head(&self) -> Option<i64> {
        Some(self.transformer.attention_head_dim)
    }

    fn latent_channels(&self) -> i64 {
        self.transformer.in_channels
    }

    fn adapted_layers(&self) -> Result<Index> {
        adapters::layers(&self.source, &self.transformer)
    }

    fn check_family(&self, request: &GenerateRequest) -> Result<()> {
        if let Some(name) = request.scheduler {
            return Err(usage(format!(
                "scheduler {name} cannot draw with Stable Diffusion 3: its paths are straight (flow matching), \
                 and only its own Euler steps follow them: leave the scheduler out"
            )));
        }
        request.solver_options.check(&[], "Stable Diffusion 3 (flow matching)")?;
        if request.control.is_some() {
            return Err(usage("Stable Diffusion 3 takes no ControlNet here: use Stable Diffusion 1.5"));
        }
        if request.ip_adapter.is_some() {
            return Err(usage("Stable Diffusion 3 takes no IP-Adapter here: use Stable Diffusion 1.5"));
        }
        if request.safety_checker {
            return Err(usage("Stable Diffusion 3 has no safety checker"));
        }
        Ok(())
    }

    fn latent_size(&self, request: &GenerateRequest, _i: usize) -> Result<(i64, i64)> {
        let (scale, default) = (self.vae.scale_factor(), self.default_size());
        let patch = self.transformer.patch_size;
        let (unit, most) = (scale * patch, self.transformer.pos_embed_max_size * patch);
        let side = |name: &str, asked: Option<usize>| {
            let pixels = asked.map_or(default, |pixels| pixels as i64);
            if pixels % unit == 0 && (1..=most * scale).contains(&pixels) {
                return Ok(pixels / scale);
            }
            let nearest = ((pixels + unit / 2) / unit).clamp(1, most * scale / unit) * unit;
            Err(usage(format!(
                "{name} {pixels} cannot be drawn: it must be a multiple of {unit} up to {}; nearest: {nearest}",
                most * scale
            )))
        };
        Ok((side("width", request.width)?, side("height", request.height)?))
    }

    fn steps(&self, request: &GenerateRequest) -> usize {
        request.steps.unwrap_or(if request.images.is_empty() { STEPS } else { STEPS_FROM_PHOTO })
    }

    fn strength(&self, request: &GenerateRequest) -> f64 {
        request.strength.unwrap_or(STRENGTH)
    }

    fn sampler(&self, _request: &GenerateRequest) -> &'static str {
        "flow-match-euler"
    }

    /// All steps, or with photos the last ones.
    fn solver(&self, request: &GenerateRequest, (width, height): (i64, i64)) -> Result<(Box<dyn Solver>, usize)> {
        let patch = self.transformer.patch_size;
        let tokens = (width / patch) * (height / patch);
        let steps = self.steps(request);
        let schedule = Box::new(self.scheduler.schedule(steps, tokens)?);
        if request.images.is_empty() {
            return Ok((schedule, 0));
        }
        let strength = self.strength(request);
        let first = flow_match_first_step(steps, strength);
        if first >= steps {
            return Err(usage(format!("strength {strength} of {steps} steps leaves no step: raise one of them")));
        }
        Ok((schedule, first))
    }
}
