//! Heun's method along sigmas: Euler's step, and from where it ends the same step again with the mean of both directions.
//!
//! Source: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_heun_discrete.py>

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::noise::{NoiseConfig, in_kind, read};
use super::options::SolverOptions;
use super::sigmas::{FinalSigma, SigmaOptions, SigmaTables};
use super::solver::{Solver, SolverConfig};

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct Options {
    clip_sample: bool,
    clip_sample_range: f64,
    use_karras_sigmas: bool,
    use_exponential_sigmas: bool,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clip_sample: false,
            clip_sample_range: 1.0,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            sigma_min: None,
            sigma_max: None,
        }
    }
}

/// Heun's method of one configuration.
#[derive(Debug, Clone)]
pub struct Heun {
    tables: SigmaTables,
    /// How far a picture may reach.
    clip: Option<f64>,
}

impl Heun {
    pub fn new(options: &Value) -> Result<Self> {
        let noise: NoiseConfig = read(options, &[("use_beta_sigmas", json!(false))])?;
        let Options { clip_sample, clip_sample_range, use_karras_sigmas, use_exponential_sigmas, sigma_min, sigma_max } =
            read(options, &[])?;
        // The class has no such options, and a file of another class may.
        let noise = NoiseConfig { rescale_betas_zero_snr: false, ..noise };
        let final_sigmas_type = FinalSigma::Zero;
        let sigmas =
            SigmaOptions { use_karras_sigmas, use_exponential_sigmas, sigma_min, sigma_max, final_sigmas_type };
        Ok(Self { tables: SigmaTables::new(noise, sigmas)?, clip: clip_sample.then_some(clip_sample_range) })
    }
}

impl SolverConfig for Heun {
    fn solver(&self, steps: usize, _options: &SolverOptions) -> Result<Box<dyn Solver>> {
        let (times, sigmas) = self.tables.of_steps(steps)?;
        // All but the first are visited twice: where a step ends, and where the next one starts.
        let twice = |place: usize| if place == 0 { 1 } else { 2 };
        // The denoiser is told float32 times.
        let times = times.iter().map(|&t| f64::from(t as f32)).enumerate();
        let timesteps = times.flat_map(|(place, t)| std::iter::repeat_n(t, twice(place))).collect();
        let sigmas = sigmas.into_iter().map(f64::from).enumerate();
        let sigmas = sigmas.flat_map(|(place, sigma)| std::iter::repeat_n(sigma, twice(place)));
        let sigmas = sigmas.chain([f64::from(self.tables.last())]).collect();
        Ok(Box::new(HeunSteps { scheduler: self.clone(), timesteps, sigmas, begun: None }))
    }
}

#[derive(Debug)]
struct HeunSteps {
    scheduler: Heun,
    timesteps: Vec<f64>,
    /// Of each of `timesteps`, and after the last.
    sigmas: Vec<f64>,
    begun: Option<Begun>,
}

/// Euler's step that was taken, and is to be taken again.
#[derive(Debug)]
struct Begun {
    sample: Tensor,
    direction: Tensor,
    length: f64,
}

impl Solver for HeunSteps {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn order(&self) -> usize {
        2
    }

    fn init_noise_sigma(&self) -> f64 {
        self.scheduler.tables.init_noise_sigma(&self.sigmas)
    }

    fn skip(&mut self, _first: usize) {
        self.begun = None;
    }

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
        _noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (sigma, sample) = (self.sigmas[index], sample.to_kind(Kind::Float));
        let Heun { tables, clip } = &self.scheduler;
        let mut direction = tables.direction(model_output.to_kind(Kind::Float), &sample, sigma);
        if let Some(range) = *clip {
            direction = (&sample - (&sample - direction * sigma).clamp(-range, range)) / sigma;
        }
        let moved = match self.begun.take() {
            Some(begun) => begun.sample + (begun.direction + direction) * (begun.length / 2.0),
            None => {
                // The last one ends where there is no noise, and so no direction: it stays Euler's.
                let length = self.sigmas[index + 1] - sigma;
                let moved = &sample + &direction * length;
                // Nothing that is kept may be written to by who gave it.
                self.begun = Some(Begun { sample: sample.copy(), direction: direction.copy(), length });
                moved
            }
        };
        Ok(moved.to_kind(model_output.kind()))
    }
}
