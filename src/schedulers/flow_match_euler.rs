//! Euler steps along the straight paths of flow matching, as Stable Diffusion 3 is sampled.
//!
//! Source: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_flow_match_euler_discrete.py>.
//! Number types follow the source step by step, so that sigmas are equal to the last bit but one.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::solver::Solver;
use crate::error::usage;

/// `scheduler/scheduler_config.json`; what it leaves out has the library's default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct FlowMatchEulerConfig {
    pub num_train_timesteps: usize,
    pub shift: f64,
    /// The shift depends on the size of the picture.
    pub use_dynamic_shifting: bool,
    pub base_shift: Option<f64>,
    pub max_shift: Option<f64>,
    pub base_image_seq_len: f64,
    pub max_image_seq_len: f64,
    pub invert_sigmas: bool,
    pub shift_terminal: Option<f64>,
    pub use_karras_sigmas: bool,
    pub use_exponential_sigmas: bool,
    pub use_beta_sigmas: bool,
    pub time_shift_type: TimeShift,
    pub stochastic_sampling: bool,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The form of a shift that depends on the size of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeShift {
    Exponential,
    Linear,
}

impl Default for FlowMatchEulerConfig {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            base_shift: Some(0.5),
            max_shift: Some(1.15),
            base_image_seq_len: 256.0,
            max_image_seq_len: 4096.0,
            invert_sigmas: false,
            shift_terminal: None,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            time_shift_type: TimeShift::Exponential,
            stochastic_sampling: false,
            other: BTreeMap::new(),
        }
    }
}

/// The scheduler of one configuration.
#[derive(Debug, Clone)]
pub struct FlowMatchEuler {
    config: FlowMatchEulerConfig,
    sigma_min: f64,
    sigma_max: f64,
}

/// The steps of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Share of noise before each step, and after the last: one more than there are steps.
    pub sigmas: Vec<f32>,
    /// The time that the denoiser is told at each step.
    pub timesteps: Vec<f64>,
}

impl FlowMatchEuler {
    /// An option that is not built here is wrong configuration, never passed over.
    pub fn new(config: FlowMatchEulerConfig) -> Result<Self> {
        let class = config.other.get("_class_name").and_then(Value::as_str);
        if let Some(other) = class.filter(|class| *class != "FlowMatchEulerDiscreteScheduler") {
            return Err(usage(format!("scheduler {other} is not known here: FlowMatchEulerDiscreteScheduler")));
        }
        let unsupported = [
            ("invert_sigmas", config.invert_sigmas),
            ("use_beta_sigmas", config.use_beta_sigmas),
            ("stochastic_sampling", config.stochastic_sampling),
        ];
        let unknown = config.other.keys().find(|key| !key.starts_with('_')).map(String::as_str);
        if let Some(option) = unsupported.into_iter().find_map(|(name, on)| on.then_some(name)).or(unknown) {
            return Err(usage(format!("FlowMatchEulerDiscreteScheduler: option {option} is not known here")));
        }
        if config.use_karras_sigmas && config.use_exponential_sigmas {
            return Err(usage("FlowMatchEulerDiscreteScheduler: karras or exponential sigmas, not both"));
        }
        if config.num_train_timesteps == 0 || config.shift.is_nan() || config.shift <= 0.0 {
            return Err(usage(format!(
                "FlowMatchEulerDiscreteScheduler: {} training steps with shift {} cannot be",
                config.num_train_timesteps, config.shift
            )));
        }
        let train = config.num_train_timesteps as f32;
        let first = |step: f32| {
            let sigma = step / train;
            let shift = config.shift as f32;
            if config.use_dynamic_shifting {
                sigma
            } else {
                shift * sigma / (1.0 + (config.shift - 1.0) as f32 * sigma)
            }
        };
        let (sigma_min, sigma_max) = (f64::from(first(1.0)), f64::from(first(train)));
        Ok(Self { config, sigma_min, sigma_max })
    }

    /// The schedule of `steps` steps. `image_tokens` (patches of the picture) counts only where the
    /// shift depends on the size.
    pub fn schedule(&self, steps: usize, image_tokens: i64) -> Result<Schedule> {
        if steps == 0 {
            return Err(usage("at least one denoising step is needed"));
        }
        let train = self.config.num_train_timesteps as f64;
        let mut sigmas: Vec<f64> = linspace(self.sigma_max * train, self.sigma_min * train, steps);
        let mu = self.config.use_dynamic_shifting.then(|| self.mu(image_tokens));
        for sigma in &mut sigmas {
            *sigma = self.shifted(*sigma / train, mu);
        }
        if let (Some(terminal), Some(last)) = (self.config.shift_terminal.filter(|t| *t != 0.0), sigmas.last().copied())
        {
            let scale = (1.0 - last) / (1.0 - terminal);
            sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) / scale);
        }
        let (first, last) = (sigmas[0], sigmas[steps - 1]);
        if self.config.use_karras_sigmas {
            let (low, high) = (last.powf(1.0 / 7.0), first.powf(1.0 / 7.0));
            sigmas = linspace(0.0, 1.0, steps).iter().map(|ramp| (high + ramp * (low - high)).powi(7)).collect();
        } else if self.config.use_exponential_sigmas {
            sigmas = linspace(first.ln(), last.ln(), steps).iter().map(|log| log.exp()).collect();
        }
        let mut sigmas: Vec<f32> = sigmas.iter().map(|&sigma| sigma as f32).collect();
        let timesteps = sigmas.iter().map(|sigma| f64::from(sigma * train as f32)).collect();
        sigmas.push(0.0);
        Ok(Schedule { sigmas, timesteps })
    }

    fn shifted(&self, sigma: f64, mu: Option<f64>) -> f64 {
        match (mu, self.config.time_shift_type) {
            (None, _) => self.config.shift * sigma / (1.0 + (self.config.shift - 1.0) * sigma),
            (Some(mu), TimeShift::Exponential) => mu.exp() / (mu.exp() + (1.0 / sigma - 1.0)),
            (Some(mu), TimeShift::Linear) => mu / (mu + (1.0 / sigma - 1.0)),
        }
    }

    /// The shift of a picture's size: a straight line through two sizes.
    fn mu(&self, image_tokens: i64) -> f64 {
        let (base, max) = (self.config.base_shift.unwrap_or(0.5), self.config.max_shift.unwrap_or(1.15));
        let slope = (max - base) / (self.config.max_image_seq_len - self.config.base_image_seq_len);
        image_tokens as f64 * slope + (base - slope * self.config.base_image_seq_len)
    }
}

impl Solver for Schedule {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn skip(&mut self, _first: usize) {}

    fn add_noise(&self, original: &Tensor, noise: &Tensor, index: usize) -> Tensor {
        let sigma = f64::from(self.sigmas[index]);
        noise * sigma + original * (1.0 - sigma)
    }

    /// Along the velocity that the denoiser gives.
    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        _noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let difference = f64::from(self.sigmas[index + 1] - self.sigmas[index]);
        Ok((sample.to_kind(Kind::Float) + model_output * difference).to_kind(model_output.kind()))
    }
}

/// As [`super::first_step`], but a broken number of steps is rounded as the pipelines of flow matching do.
pub fn flow_match_first_step(steps: usize, strength: f64) -> usize {
    let steps = steps as f64;
    (steps - (steps * strength).min(steps)).max(0.0) as usize
}

/// Evenly spaced numbers from `start` to `stop`, both ends included, as numpy computes them.
pub(super) fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    if count == 1 {
        return vec![start];
    }
    let step = (stop - start) / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    values[count - 1] = stop;
    values
}
