//! Denoising diffusion implicit models: straight to the picture that the noise stands for, and back
//! to the next time.
//!
//! Source: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_ddim.py>

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::noise::{Noise, NoiseConfig, Prediction, Spacing, mix, read};
use super::options::SolverOptions;
use super::solver::{Solver, SolverConfig};

/// The [`SolverOptions`] that it takes.
pub const OPTIONS: &[&str] = &[ETA];

/// How much noise is added at each step: 0 none, 1 as much as in DDPM.
const ETA: &str = "eta";

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct Options {
    clip_sample: bool,
    clip_sample_range: f64,
    set_alpha_to_one: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { clip_sample: true, clip_sample_range: 1.0, set_alpha_to_one: true }
    }
}

/// DDIM of one configuration.
#[derive(Debug, Clone)]
pub struct Ddim {
    noise: Noise,
    options: Options,
}

impl Ddim {
    pub fn new(options: &Value) -> Result<Self> {
        let unsupported = [("thresholding", Value::Bool(false))];
        let config: NoiseConfig = read(options, &unsupported)?;
        Ok(Self { noise: Noise::new(config, false)?, options: read(options, &[])? })
    }
}

impl SolverConfig for Ddim {
    fn solver(&self, steps: usize, options: &SolverOptions) -> Result<Box<dyn Solver>> {
        let eta = options.get(ETA);
        ensure!((0.0..=1.0).contains(&eta), "eta {eta} must be between 0 and 1");
        let places = self.noise.timesteps(steps, Spacing::Leading)?;
        let timesteps = places.iter().map(|&t| t as f64).collect();
        let ratio = (self.noise.config.num_train_timesteps / steps) as i64;
        Ok(Box::new(DdimSteps { scheduler: self.clone(), places, timesteps, ratio, eta }))
    }
}

#[derive(Debug)]
struct DdimSteps {
    scheduler: Ddim,
    places: Vec<i64>,
    timesteps: Vec<f64>,
    /// Training steps in one step.
    ratio: i64,
    eta: f64,
}

impl Solver for DdimSteps {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn skip(&mut self, _first: usize) {}

    fn add_noise(&self, original: &Tensor, noise: &Tensor, index: usize) -> Tensor {
        mix(original, noise, self.scheduler.noise.share(self.places[index], 1.0))
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        draw: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let Ddim { noise, options } = &self.scheduler;
        let first = noise.first_share(options.set_alpha_to_one);
        let (now, next) = (noise.share(self.places[index], first), noise.share(self.places[index] - self.ratio, first));
        let (share, rest) = (now.sqrt(), (1.0 - now).sqrt());
        let (sample, output) = (sample.to_kind(Kind::Float), model_output.to_kind(Kind::Float));
        let (mut picture, epsilon) = match noise.config.prediction_type {
            Prediction::Epsilon => ((sample - &output * rest) / share, output),
            Prediction::Sample => (output.shallow_clone(), (sample - output * share) / rest),
            Prediction::Velocity => (&sample * share - &output * rest, output * share + sample * rest),
        };
        if options.clip_sample {
            picture = picture.clamp(-options.clip_sample_range, options.clip_sample_range);
        }
        let moved = picture * next.sqrt();
        if self.eta == 0.0 {
            return Ok((moved + epsilon * (1.0 - next).sqrt()).to_kind(model_output.kind()));
        }
        // Formula 16 of the paper.
        let deviation = self.eta * ((1.0 - next) / (1.0 - now) * (1.0 - now / next)).sqrt();
        // Where noise takes all, rounding may leave less than nothing for the direction.
        let direction = epsilon * (1.0 - next - deviation * deviation).max(0.0).sqrt();
        let added = draw()?.to_kind(Kind::Float) * deviation;
        Ok((moved + direction + added).to_kind(model_output.kind()))
    }
}
