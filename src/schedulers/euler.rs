//! Euler's steps along sigmas, plain and ancestral (with new noise after each step).
//!
//! Sources: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_euler_discrete.py>
//! and <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_euler_ancestral_discrete.py>

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::noise::{NoiseConfig, Prediction, in_kind, read};
use super::options::SolverOptions;
use super::sigmas::{SigmaOptions, SigmaTables};
use super::solver::{Solver, SolverConfig};

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
    tables: SigmaTables,
    timestep_type: TimestepType,
    ancestral: bool,
}

impl Euler {
    pub fn new(options: &Value) -> Result<Self> {
        let unsupported = [("use_beta_sigmas", json!(false)), ("interpolation_type", json!("linear"))];
        let (config, options): (NoiseConfig, Options) = (read(options, &unsupported)?, read(options, &[])?);
        let tables = SigmaTables::new(config, options.sigmas)?;
        Ok(Self { tables, timestep_type: options.timestep_type, ancestral: false })
    }

    /// The ancestral class has none of the options on sigmas.
    pub fn ancestral(options: &Value) -> Result<Self> {
        let config: NoiseConfig = read(options, &[])?;
        ensure!(config.prediction_type != Prediction::Sample, "option prediction_type = \"sample\" is not known here");
        let tables = SigmaTables::new(config, SigmaOptions::default())?;
        Ok(Self { tables, timestep_type: TimestepType::Discrete, ancestral: true })
    }
}

impl SolverConfig for Euler {
    fn solver(&self, steps: usize, _options: &SolverOptions) -> Result<Box<dyn Solver>> {
        let (mut timesteps, mut sigmas) = self.tables.of_steps(steps)?;
        let velocity = self.tables.noise.config.prediction_type == Prediction::Velocity;
        if self.timestep_type == TimestepType::Continuous && velocity {
            timesteps = sigmas.iter().map(|sigma| f64::from(0.25 * sigma.ln())).collect();
        }
        sigmas.push(self.tables.last());
        let sigmas = sigmas.into_iter().map(f64::from).collect();
        // The denoiser is told float32 times.
        let timesteps = timesteps.into_iter().map(|t| f64::from(t as f32)).collect();
        Ok(Box::new(EulerSteps { scheduler: self.clone(), timesteps, sigmas }))
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
        self.scheduler.tables.init_noise_sigma(&self.sigmas)
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
        let direction = self.scheduler.tables.direction(output, &sample, sigma);
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
