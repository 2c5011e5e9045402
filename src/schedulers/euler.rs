//! Euler's steps along sigmas, plain and ancestral (with new noise after each step).
//!
//! Sources: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_euler_discrete.py>
//! and <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_euler_ancestral_discrete.py>

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::Solver;
use super::noise::{Noise, NoiseConfig, Prediction, Spacing, in_kind, read, trailing};
use super::sigmas::{self, SigmaOptions};
use crate::schedulers::flow_match_euler::linspace;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TimestepType {
    #[default]
    Discrete,
    /// The logarithm of sigma, for models that predict velocities.
    Continuous,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Options {
    timestep_type: TimestepType,
    #[serde(flatten)]
    sigmas: SigmaOptions,
}

/// Euler's method of one configuration.
#[derive(Debug, Clone)]
pub struct Euler {
    noise: Noise,
    training: Vec<f32>,
    options: Options,
    ancestral: bool,
}

impl Euler {
    pub(super) fn new(options: &Value) -> Result<Self> {
        let unbuilt = [("use_beta_sigmas", json!(false)), ("interpolation_type", json!("linear"))];
        let (config, options): (NoiseConfig, Options) = (read(options, &unbuilt)?, read(options, &[])?);
        options.sigmas.check()?;
        let noise = Noise::new(config, true)?;
        Ok(Self { training: sigmas::of_training(&noise.alphas_cumprod), noise, options, ancestral: false })
    }

    /// The ancestral class has none of the options on sigmas.
    pub(super) fn ancestral(options: &Value) -> Result<Self> {
        let config: NoiseConfig = read(options, &[])?;
        ensure!(config.prediction_type != Prediction::Sample, "option prediction_type = \"sample\" is not known here");
        let (noise, options) = (Noise::new(config, true)?, Options::default());
        Ok(Self { training: sigmas::of_training(&noise.alphas_cumprod), noise, options, ancestral: true })
    }

    pub(super) fn schedule(&self, steps: usize) -> Result<Box<dyn Solver>> {
        let mut timesteps = self.times(steps)?;
        let mut sigmas: Vec<f64> = timesteps.iter().map(|&t| sigmas::at(&self.training, t)).collect();
        if let Some(spread) = self.options.sigmas.spread(sigmas[0], sigmas[steps - 1], steps) {
            timesteps = spread.iter().map(|&sigma| sigmas::time_of(&self.training, sigma)).collect();
            sigmas = spread;
        }
        let mut sigmas: Vec<f32> = sigmas.iter().map(|&sigma| sigma as f32).collect();
        let velocity = self.noise.config.prediction_type == Prediction::Velocity;
        if self.options.timestep_type == TimestepType::Continuous && velocity {
            timesteps = sigmas.iter().map(|sigma| f64::from(0.25 * sigma.ln())).collect();
        }
        sigmas.push(self.options.sigmas.last(&self.training));
        let sigmas = sigmas.into_iter().map(f64::from).collect();
        // The denoiser is told float32 times.
        let timesteps = timesteps.into_iter().map(|t| f64::from(t as f32)).collect();
        Ok(Box::new(EulerSteps { scheduler: self.clone(), timesteps, sigmas }))
    }

    /// Times that the steps stand for, which need not be whole numbers.
    fn times(&self, steps: usize) -> Result<Vec<f64>> {
        let (config, train) = (&self.noise.config, self.noise.config.num_train_timesteps);
        ensure!(steps <= train, "{steps} steps, and the model was trained with {train} (num_train_timesteps)");
        let spacing = config.timestep_spacing.unwrap_or(Spacing::Linspace);
        let times: Vec<f64> = match spacing {
            Spacing::Linspace => {
                linspace(0.0, (train - 1) as f64, steps).iter().rev().map(|&t| f64::from(t as f32)).collect()
            }
            Spacing::Leading => {
                let ratio = (train / steps) as i64;
                (0..steps as i64).rev().map(|i| (i * ratio + config.steps_offset) as f64).collect()
            }
            Spacing::Trailing => trailing(train, train, steps).into_iter().map(|t| t as f64).collect(),
        };
        Ok(times)
    }
}

#[derive(Debug)]
struct EulerSteps {
    scheduler: Euler,
    timesteps: Vec<f64>,
    /// One more than there are steps.
    sigmas: Vec<f64>,
}

impl Solver for EulerSteps {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        let largest = self.sigmas.iter().copied().fold(0.0, f64::max);
        match self.scheduler.noise.config.timestep_spacing.unwrap_or(Spacing::Linspace) {
            Spacing::Linspace | Spacing::Trailing => largest,
            Spacing::Leading => (largest * largest + 1.0).sqrt(),
        }
    }

    fn skip(&mut self, _first: usize) {}

    fn scale_model_input(&self, sample: &Tensor, index: usize) -> Tensor {
        sample / (self.sigmas[index].powi(2) + 1.0).sqrt()
    }

    fn add_noise(&self, original: &Tensor, noise: &Tensor, index: usize) -> Tensor {
        original + noise * in_kind(self.sigmas[index], original.kind())
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (sigma, next) = (self.sigmas[index], self.sigmas[index + 1]);
        let (sample, output) = (sample.to_kind(Kind::Float), model_output.to_kind(Kind::Float));
        // The direction is (sample - picture) / sigma.
        let direction = match self.scheduler.noise.config.prediction_type {
            Prediction::Epsilon => output,
            Prediction::Velocity => {
                let whole = sigma * sigma + 1.0;
                output / whole.sqrt() + &sample * (sigma / whole)
            }
            Prediction::Sample => (&sample - output) / sigma,
        };
        let moved = if self.scheduler.ancestral {
            let up = (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).sqrt();
            let down = (next.powi(2) - up.powi(2)).sqrt();
            // Drawn at the last step too, where it does not count: the stream must go on.
            sample + direction * (down - sigma) + noise()?.to_kind(Kind::Float) * up
        } else {
            sample + direction * (next - sigma)
        };
        Ok(moved.to_kind(model_output.kind()))
    }
}
