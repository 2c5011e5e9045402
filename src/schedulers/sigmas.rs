//! Sigmas (noise in units of the picture) of a schedule, for solvers that step along them.

use anyhow::{Result, ensure};
use serde::Deserialize;
use tch::Tensor;

use super::flow_match_euler::linspace;
use super::noise::{Noise, NoiseConfig, Prediction, Spacing, trailing};

/// How sigmas are spread, beside following the training steps.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SigmaOptions {
    pub use_karras_sigmas: bool,
    pub use_exponential_sigmas: bool,
    pub sigma_min: Option<f64>,
    pub sigma_max: Option<f64>,
    pub final_sigmas_type: FinalSigma,
}

/// What the last step ends at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    #[default]
    Zero,
    SigmaMin,
}

/// Sigmas of all training steps, from their shares.
pub fn of_training(alphas_cumprod: &[f32]) -> Vec<f32> {
    alphas_cumprod.iter().map(|share| ((1.0 - share) / share).sqrt()).collect()
}

impl SigmaOptions {
    pub fn check(&self) -> Result<()> {
        ensure!(!(self.use_karras_sigmas && self.use_exponential_sigmas), "karras or exponential sigmas, not both");
        Ok(())
    }

    /// Sigmas between the largest and the smallest that are spread in another way; None = as they are.
    pub fn spread(&self, largest: f64, smallest: f64, steps: usize) -> Option<Vec<f64>> {
        let (largest, smallest) = (self.sigma_max.unwrap_or(largest), self.sigma_min.unwrap_or(smallest));
        if self.use_karras_sigmas {
            const RHO: f64 = 7.0;
            let (high, low) = (largest.powf(1.0 / RHO), smallest.powf(1.0 / RHO));
            return Some(linspace(0.0, 1.0, steps).iter().map(|ramp| (high + ramp * (low - high)).powf(RHO)).collect());
        }
        let exponential = || linspace(largest.ln(), smallest.ln(), steps).iter().map(|log| log.exp()).collect();
        self.use_exponential_sigmas.then(exponential)
    }

    /// The sigma after the last step.
    pub fn last(&self, training: &[f32]) -> f32 {
        match self.final_sigmas_type {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => training[0],
        }
    }
}

/// What solvers of the `Euler` kind share: the noise schedule, and the sigmas of a number of steps.
#[derive(Debug, Clone)]
pub struct SigmaTables {
    pub noise: Noise,
    training: Vec<f32>,
    options: SigmaOptions,
}

impl SigmaTables {
    pub fn new(config: NoiseConfig, options: SigmaOptions) -> Result<Self> {
        options.check()?;
        let noise = Noise::new(config, true)?;
        Ok(Self { training: of_training(&noise.alphas_cumprod), noise, options })
    }

    fn spacing(&self) -> Spacing {
        self.noise.config.timestep_spacing.unwrap_or(Spacing::Linspace)
    }

    /// Times and sigmas of `steps` steps; the sigma after the last is [`Self::last`].
    pub fn of_steps(&self, steps: usize) -> Result<(Vec<f64>, Vec<f32>)> {
        let mut times = self.times(steps)?;
        let mut sigmas: Vec<f64> = times.iter().map(|&t| at(&self.training, t)).collect();
        if let Some(spread) = self.options.spread(sigmas[0], sigmas[steps - 1], steps) {
            times = spread.iter().map(|&sigma| time_of(&self.training, sigma)).collect();
            sigmas = spread;
        }
        Ok((times, sigmas.into_iter().map(|sigma| sigma as f32).collect()))
    }

    /// Times that the steps stand for, which need not be whole numbers.
    fn times(&self, steps: usize) -> Result<Vec<f64>> {
        let (config, train) = (&self.noise.config, self.noise.config.num_train_timesteps);
        ensure!(steps <= train, "{steps} steps, and the model was trained with {train} (num_train_timesteps)");
        let times: Vec<f64> = match self.spacing() {
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

    /// The sigma after the last step.
    pub fn last(&self) -> f32 {
        self.options.last(&self.training)
    }

    /// What standard normal noise is multiplied with at the start of steps along these sigmas.
    pub fn init_noise_sigma(&self, sigmas: &[f64]) -> f64 {
        let largest = sigmas.iter().copied().fold(0.0, f64::max);
        match self.spacing() {
            Spacing::Linspace | Spacing::Trailing => largest,
            Spacing::Leading => (largest * largest + 1.0).sqrt(),
        }
    }

    /// `(sample - picture) / sigma` of the picture that the denoiser's output, float32 as the sample, stands for.
    pub fn direction(&self, output: Tensor, sample: &Tensor, sigma: f64) -> Tensor {
        match self.noise.config.prediction_type {
            Prediction::Epsilon => output,
            Prediction::Velocity => {
                let whole = sigma * sigma + 1.0;
                output / whole.sqrt() + sample * (sigma / whole)
            }
            Prediction::Sample => (sample - output) / sigma,
        }
    }
}

/// The sigma at a broken training step: on the straight line between its neighbours.
pub fn at(training: &[f32], t: f64) -> f64 {
    let last = training.len() - 1;
    let low = (t.max(0.0) as usize).min(last);
    let (here, next) = (f64::from(training[low]), f64::from(training[(low + 1).min(last)]));
    (next - here) * (t - low as f64).clamp(0.0, 1.0) + here
}

/// The broken training step of a sigma, on a logarithmic scale.
pub fn time_of(training: &[f32], sigma: f64) -> f64 {
    let wanted = sigma.max(1e-10).ln();
    let logs: Vec<f32> = training.iter().map(|sigma| sigma.ln()).collect();
    // Sigmas grow with the time: the last one that is not larger, but never the very last.
    let low = logs.partition_point(|log| f64::from(*log) <= wanted).saturating_sub(1).min(logs.len().saturating_sub(2));
    let (here, next) = (logs[low], logs[(low + 1).min(logs.len() - 1)]);
    let share = ((f64::from(here) - wanted) / f64::from(here - next)).clamp(0.0, 1.0);
    (1.0 - share) * low as f64 + share * (low + 1) as f64
}
