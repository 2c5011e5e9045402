//! The noise schedule that all solvers share: how much of a picture is left at each training step.
//!
//! Tables are float32, made by libtorch in the order of the source, so that they are equal to
//! diffusers' to the last bit; what is computed from them for one step is float64.

use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::flow_match_euler::linspace;
use crate::checkpoints::config;

/// The options that every solver has.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct NoiseConfig {
    pub num_train_timesteps: usize,
    pub beta_start: f64,
    pub beta_end: f64,
    pub beta_schedule: BetaSchedule,
    pub trained_betas: Option<Vec<f64>>,
    pub prediction_type: Prediction,
    /// None = the solver's own default.
    pub timestep_spacing: Option<Spacing>,
    pub steps_offset: i64,
    pub rescale_betas_zero_snr: bool,
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            prediction_type: Prediction::Epsilon,
            timestep_spacing: None,
            steps_offset: 0,
            rescale_betas_zero_snr: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum BetaSchedule {
    #[serde(rename = "linear")]
    Linear,
    #[serde(rename = "scaled_linear")]
    ScaledLinear,
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCosine,
}

/// What the denoiser's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Prediction {
    /// The noise.
    #[serde(rename = "epsilon")]
    Epsilon,
    /// The velocity between noise and picture.
    #[serde(rename = "v_prediction")]
    Velocity,
    /// The picture.
    #[serde(rename = "sample")]
    Sample,
}

/// Which training steps are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    Leading,
    Linspace,
    Trailing,
}

/// The options of a solver, read into its own type; those in `unsupported` must have the value given
/// there, which means "off".
pub fn read<T: DeserializeOwned>(options: &Value, unsupported: &[(&str, Value)]) -> Result<T> {
    for (option, off) in unsupported {
        if let Some(value) = options.get(*option).filter(|value| *value != off) {
            bail!("option {option} = {value} is not known here");
        }
    }
    config::take(options.clone())
}

/// The tables of one configuration.
#[derive(Debug, Clone)]
pub struct Noise {
    pub config: NoiseConfig,
    /// Share of the picture's variance left after each training step.
    pub alphas_cumprod: Vec<f32>,
}

impl Noise {
    /// `rescued`: a last share of nothing becomes a very small one, for solvers that divide by it.
    pub fn new(config: NoiseConfig, rescued: bool) -> Result<Self> {
        let count = config.trained_betas.as_ref().map_or(config.num_train_timesteps, Vec::len);
        ensure!(count == config.num_train_timesteps, "trained_betas has {count} numbers, one is needed a step");
        ensure!(count > 0, "num_train_timesteps is 0");
        let mut betas = betas(&config);
        if config.rescale_betas_zero_snr {
            betas = rescaled(&betas);
        }
        let alphas: Tensor = 1.0 - betas;
        let mut alphas_cumprod = Vec::<f32>::try_from(alphas.cumprod(0, Kind::Float))?;
        if let (true, true, Some(last)) = (rescued, config.rescale_betas_zero_snr, alphas_cumprod.last_mut()) {
            *last = 2f32.powi(-24);
        }
        let possible = |share: &f32| (0.0..=1.0).contains(share);
        ensure!(alphas_cumprod.iter().all(possible), "the betas do not lie between 0 and 1");
        Ok(Self { config, alphas_cumprod })
    }

    /// The share after training step `t`; before the first step it is `first`.
    pub fn share(&self, t: i64, first: f64) -> f64 {
        let last = self.alphas_cumprod.len() - 1;
        usize::try_from(t).map_or(first, |t| f64::from(self.alphas_cumprod[t.min(last)]))
    }

    /// The share before the first step: all, or as much as after it.
    pub fn first_share(&self, set_alpha_to_one: bool) -> f64 {
        if set_alpha_to_one { 1.0 } else { f64::from(self.alphas_cumprod[0]) }
    }

    /// Training steps that `steps` steps stand for, the last one first.
    pub fn timesteps(&self, steps: usize, default: Spacing) -> Result<Vec<i64>> {
        let train = self.config.num_train_timesteps;
        ensure!(steps <= train, "{steps} steps, and the model was trained with {train} (num_train_timesteps)");
        let mut timesteps: Vec<i64> = match self.config.timestep_spacing.unwrap_or(default) {
            Spacing::Linspace => {
                let places = linspace(0.0, (train - 1) as f64, steps);
                places.iter().rev().map(|t| t.round_ties_even() as i64).collect()
            }
            Spacing::Leading => {
                let ratio = (train / steps) as i64;
                (0..steps as i64).rev().map(|i| i * ratio + self.config.steps_offset).collect()
            }
            Spacing::Trailing => trailing(train, train, steps),
        };
        timesteps.truncate(steps);
        self.check(&timesteps)?;
        Ok(timesteps)
    }

    /// Every time must be one of the training.
    pub fn check(&self, timesteps: &[i64]) -> Result<()> {
        let train = self.config.num_train_timesteps;
        let inside = |t: &i64| usize::try_from(*t).is_ok_and(|t| t < train);
        let Some(t) = timesteps.iter().find(|t| !inside(t)) else { return Ok(()) };
        bail!("{} steps would visit training step {t} of 0 to {}: choose another number", timesteps.len(), train - 1)
    }
}

/// From `from` down to 1, evenly: numpy's `arange` with a broken step, which sometimes has one number
/// too many by rounding. It would lie before the first training step and is left out here.
pub fn trailing(from: usize, train: usize, steps: usize) -> Vec<i64> {
    let (from, ratio) = (from as f64, train as f64 / steps as f64);
    let difference = (from - ratio) - from;
    let count = ((from / ratio).ceil() as usize).min(steps);
    (0..count).map(|i| (from + i as f64 * difference).round_ties_even() as i64 - 1).collect()
}

fn betas(config: &NoiseConfig) -> Tensor {
    let (count, options) = (config.num_train_timesteps as i64, (Kind::Float, Device::Cpu));
    if let Some(betas) = &config.trained_betas {
        return Tensor::from_slice(betas).to_kind(Kind::Float);
    }
    match config.beta_schedule {
        BetaSchedule::Linear => Tensor::linspace(config.beta_start, config.beta_end, count, options),
        BetaSchedule::ScaledLinear => {
            Tensor::linspace(config.beta_start.sqrt(), config.beta_end.sqrt(), count, options).square()
        }
        BetaSchedule::SquaredCosine => {
            let share = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos().powi(2);
            let place = |i: i64| i as f64 / count as f64;
            let beta = |i: i64| (1.0 - share(place(i + 1)) / share(place(i))).min(0.999);
            Tensor::from_slice(&(0..count).map(beta).collect::<Vec<f64>>()).to_kind(Kind::Float)
        }
    }
}

/// Betas after which nothing of the picture is left at the last step.
/// Source: <https://huggingface.co/papers/2305.08891>, algorithm 1.
fn rescaled(betas: &Tensor) -> Tensor {
    let alphas: Tensor = 1.0 - betas;
    let roots = alphas.cumprod(0, Kind::Float).sqrt();
    let (first, last) = (roots.get(0), roots.get(-1));
    let shares = ((&roots - &last) * (&first / (&first - &last))).square();
    let count = shares.size()[0];
    let ratios = shares.narrow(0, 1, count - 1) / shares.narrow(0, 0, count - 1);
    1.0 - Tensor::cat(&[shares.narrow(0, 0, 1), ratios], 0)
}

/// A number as the number type `kind` holds it: the noise that is added to a photo's latents is
/// scaled in their type.
pub fn in_kind(value: f64, kind: Kind) -> f64 {
    Tensor::from(value as f32).to_kind(kind).double_value(&[])
}

/// `share` of the picture and the rest of the noise, each rounded in the latents' number type.
pub fn mix(original: &Tensor, noise: &Tensor, share: f64) -> Tensor {
    let kind = original.kind();
    let share = in_kind(share, kind);
    let (picture, rest) = (in_kind(share.sqrt(), kind), in_kind(in_kind(1.0 - share, kind).sqrt(), kind));
    original * picture + noise * rest
}
