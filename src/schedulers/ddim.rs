//! Denoising diffusion implicit models: straight to the picture that the noise stands for, and back
//! to the next time.
//!
//! Source: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_ddim.py>

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::noise::{Noise, NoiseConfig, Prediction, Spacing, mix, read};
use super::options::SolverOptions;
use super::solver::{Solver, SolverConfig};

/// The [`SolverOptions`] that it takes.
pub const OPTIONS: &[&str] = &[];

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

/// DDIM of one configuration; no noise is added (eta is 0).
#[derive(Debug, Clone)]
pub struct Ddim {
    noise: Noise,
    options: Options,
}

impl Ddim {
    pub fn new(options: &Value) -> Result<Self> {
        let unbuilt = [("thresholding", Value::Bool(false))];
        let config: NoiseConfig = read(options, &unbuilt)?;
        Ok(Self { noise: Noise::new(config, false)?, options: read(options, &[])? })
    }
}

impl SolverConfig for Ddim {
    fn solver(&self, steps: usize, _options: &SolverOptions) -> Result<Box<dyn Solver>> {
        let places = self.noise.timesteps(steps, Spacing::Leading)?;
        let timesteps = places.iter().map(|&t| t as f64).collect();
        let ratio = (self.noise.config.num_train_timesteps / steps) as i64;
        Ok(Box::new(DdimSteps { scheduler: self.clone(), places, timesteps, ratio }))
    }
}

#[derive(Debug)]
struct DdimSteps {
    scheduler: Ddim,
    places: Vec<i64>,
    timesteps: Vec<f64>,
    /// Training steps in one step.
    ratio: i64,
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
        _noise: &mut dyn FnMut() -> Result<Tensor>,
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
        Ok((picture * next.sqrt() + epsilon * (1.0 - next).sqrt()).to_kind(model_output.kind()))
    }
}
