//! Pseudo numerical methods for diffusion models: linear multistep over the last four outputs, begun
//! with Runge-Kutta steps, or (as Stable Diffusion does) with one step that is taken twice.
//!
//! Source: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_pndm.py>.
//! Which rule a step follows depends on how many were taken before, not on its time: image-to-image
//! leaves out the times at the start, and its third step then treats the sample as one time older
//! than it is. The same picture needs the same rule.

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::noise::{Noise, NoiseConfig, Prediction, Spacing, mix, read};
use super::options::SolverOptions;
use super::solver::{Solver, SolverConfig};

/// Outputs that a multistep rule looks at, and steps that begin with Runge-Kutta.
const ORDER: usize = 4;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Options {
    skip_prk_steps: bool,
    set_alpha_to_one: bool,
}

/// PNDM of one configuration.
#[derive(Debug, Clone)]
pub struct Pndm {
    noise: Noise,
    options: Options,
}

impl Pndm {
    pub fn new(options: &Value) -> Result<Self> {
        let config: NoiseConfig = read(options, &[])?;
        ensure!(config.prediction_type != Prediction::Sample, "option prediction_type = \"sample\" is not known here");
        // The class has no such option, and a file of another class may.
        let config = NoiseConfig { rescale_betas_zero_snr: false, ..config };
        Ok(Self { noise: Noise::new(config, false)?, options: read(options, &[])? })
    }
}

impl SolverConfig for Pndm {
    fn solver(&self, steps: usize, _options: &SolverOptions) -> Result<Box<dyn Solver>> {
        let train = self.noise.config.num_train_timesteps;
        let plain = self.noise.timesteps(steps, Spacing::Leading)?;
        let (prk, plms) = if self.options.skip_prk_steps {
            // The second time is visited twice.
            let twice = plain.get(1).copied();
            let rest = plain.iter().skip(1).copied();
            (Vec::new(), plain.iter().take(1).copied().chain(twice).chain(rest).collect())
        } else {
            ensure!(steps >= ORDER, "{steps} steps with skip_prk_steps = false: at least {ORDER} are needed");
            // Each of the first times and the middle to its next one, twice each, but for the ends.
            let half = (train / steps / 2) as i64;
            let middles = plain[..ORDER].iter().flat_map(|t| [t + half, *t]).skip(1);
            let doubled: Vec<i64> = middles.flat_map(|t| [t, t]).collect();
            (doubled[1..doubled.len() - 1].to_vec(), plain[ORDER - 1..].to_vec())
        };
        let places = [prk.as_slice(), &plms].concat();
        self.noise.check(&places)?;
        let timesteps = places.iter().map(|&t| t as f64).collect();
        let ratio = (train / steps) as i64;
        let (scheduler, outputs) = (self.clone(), Vec::new());
        Ok(Box::new(PndmSteps { scheduler, prk, places, timesteps, ratio, outputs, sum: None, kept: None, counter: 0 }))
    }
}

#[derive(Debug)]
struct PndmSteps {
    scheduler: Pndm,
    /// The Runge-Kutta part of `places`.
    prk: Vec<i64>,
    places: Vec<i64>,
    timesteps: Vec<f64>,
    /// Training steps in one step.
    ratio: i64,
    /// The last outputs, the newest at the end.
    outputs: Vec<Tensor>,
    /// The weighted outputs of a Runge-Kutta step so far.
    sum: Option<Tensor>,
    /// The sample that a step started from that is not over yet.
    kept: Option<Tensor>,
    counter: usize,
}

impl PndmSteps {
    /// A quarter of a Runge-Kutta step.
    fn step_prk(&mut self, output: Tensor, t: i64, sample: Tensor) -> Tensor {
        let before = if self.counter.is_multiple_of(2) { t - self.ratio / 2 } else { t };
        let from = self.prk[self.counter / 4 * 4];
        let add = |sum: &Option<Tensor>, share: f64| match sum {
            Some(sum) => sum + &output * share,
            None => &output * share,
        };
        let output = match self.counter % 4 {
            0 => {
                self.sum = Some(add(&self.sum, 1.0 / 6.0));
                self.outputs.push(output.shallow_clone());
                self.kept = Some(sample.shallow_clone());
                output
            }
            1 | 2 => {
                self.sum = Some(add(&self.sum, 1.0 / 3.0));
                output
            }
            _ => add(&self.sum.take(), 1.0 / 6.0),
        };
        let start = self.kept.as_ref().unwrap_or(&sample);
        self.previous(start, from, before, &output)
    }

    /// A linear multistep.
    fn step_plms(&mut self, output: Tensor, t: i64, sample: Tensor) -> Tensor {
        let (mut from, mut before, mut start) = (t, t - self.ratio, sample);
        if self.counter == 1 {
            // The first step again, with the mean of both its ends.
            (from, before) = (t + self.ratio, t);
            start = self.kept.take().unwrap_or(start);
        } else {
            let old = self.outputs.len().saturating_sub(ORDER - 1);
            self.outputs.drain(..old);
            self.outputs.push(output.shallow_clone());
            if self.counter == 0 {
                self.kept = Some(start.shallow_clone());
            }
        }
        let output = match self.outputs.as_slice() {
            [a] if self.counter == 1 => (output + a) / 2.0,
            [b, a] => (a * 3.0 - b) / 2.0,
            [c, b, a] => (a * 23.0 - b * 16.0 + c * 5.0) / 12.0,
            [d, c, b, a] => (a * 55.0 - b * 59.0 + c * 37.0 - d * 9.0) / 24.0,
            _ => output,
        };
        self.previous(&start, from, before, &output)
    }

    /// Formula 9 of the paper: the sample at the time `before`.
    fn previous(&self, sample: &Tensor, t: i64, before: i64, output: &Tensor) -> Tensor {
        let Pndm { noise, options } = &self.scheduler;
        let first = noise.first_share(options.set_alpha_to_one);
        let (now, next) = (noise.share(t, first), noise.share(before, first));
        let (rest_now, rest_next) = (1.0 - now, 1.0 - next);
        let along = (next - now) / (now * rest_next.sqrt() + (now * rest_now * next).sqrt());
        let keep = (next / now).sqrt();
        match noise.config.prediction_type {
            Prediction::Velocity => sample * (keep - along * rest_now.sqrt()) - output * (along * now.sqrt()),
            _ => sample * keep - output * along,
        }
    }
}

impl Solver for PndmSteps {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn skip(&mut self, _first: usize) {
        (self.outputs, self.sum, self.kept, self.counter) = (Vec::new(), None, None, 0);
    }

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
        let (t, output, sample) = (self.places[index], model_output.to_kind(Kind::Float), sample.to_kind(Kind::Float));
        let next = if self.counter < self.prk.len() {
            self.step_prk(output, t, sample)
        } else {
            self.step_plms(output, t, sample)
        };
        self.counter += 1;
        Ok(next.to_kind(model_output.kind()))
    }
}
