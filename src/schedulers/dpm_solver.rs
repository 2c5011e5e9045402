//! DPM-Solver++, multistep, of first and second order ("2M").
//!
//! Source: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/schedulers/scheduling_dpmsolver_multistep.py>

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::flow_match_euler::linspace;
use super::noise::{BetaSchedule, Noise, NoiseConfig, Prediction, Spacing, in_kind, read, trailing};
use super::options::SolverOptions;
use super::sigmas::{self, FinalSigma, SigmaOptions};
use super::solver::{Solver, SolverConfig};

/// Below this many steps the last ones are of lower order, which is more stable.
const FEW_STEPS: usize = 15;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SolverType {
    /// Other solvers' names stand for it, too.
    #[default]
    #[serde(alias = "logrho", alias = "bh1", alias = "bh2")]
    Midpoint,
    Heun,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct Options {
    solver_order: usize,
    solver_type: SolverType,
    algorithm_type: String,
    lower_order_final: bool,
    euler_at_final: bool,
    lambda_min_clipped: f64,
    #[serde(flatten)]
    sigmas: SigmaOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            solver_order: 2,
            solver_type: SolverType::Midpoint,
            algorithm_type: "dpmsolver++".to_string(),
            lower_order_final: true,
            euler_at_final: false,
            lambda_min_clipped: f64::NEG_INFINITY,
            sigmas: SigmaOptions::default(),
        }
    }
}

/// DPM-Solver++ of one configuration.
#[derive(Debug, Clone)]
pub struct DpmSolverMultistep {
    noise: Noise,
    training: Vec<f32>,
    options: Options,
}

impl DpmSolverMultistep {
    pub fn new(options: &Value) -> Result<Self> {
        let off = |option| (option, json!(false));
        let unsupported =
            ["thresholding", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting"].map(off);
        let config: NoiseConfig = read(options, &unsupported)?;
        let options: Options = read(options, &[("variance_type", Value::Null)])?;
        ensure!(
            ["dpmsolver++", "deis"].contains(&options.algorithm_type.as_str()),
            "option algorithm_type = {:?} is not known here: dpmsolver++",
            options.algorithm_type
        );
        ensure!((1..=2).contains(&options.solver_order), "option solver_order = {}: 1 or 2", options.solver_order);
        options.sigmas.check()?;
        let noise = Noise::new(config, true)?;
        Ok(Self { training: sigmas::of_training(&noise.alphas_cumprod), noise, options })
    }

    /// Training steps that the steps stand for.
    fn places(&self, steps: usize) -> Result<Vec<i64>> {
        let (config, train) = (&self.noise.config, self.noise.config.num_train_timesteps);
        // Times of almost nothing but noise may be left out.
        let lambda = |share: &f32| f64::from(share.sqrt().ln() - (1.0 - share).sqrt().ln());
        let clipped = |share: &&f32| lambda(share) < self.options.lambda_min_clipped;
        let last = train - self.noise.alphas_cumprod.iter().rev().take_while(clipped).count();
        ensure!(steps <= last, "{steps} steps, and the model was trained with {last} (num_train_timesteps)");
        let places: Vec<i64> = match config.timestep_spacing.unwrap_or(Spacing::Linspace) {
            Spacing::Linspace => {
                let all = linspace(0.0, last as f64 - 1.0, steps + 1);
                all.iter().skip(1).rev().map(|t| t.round_ties_even() as i64).collect()
            }
            Spacing::Leading => {
                let ratio = (last / (steps + 1)) as i64;
                (1..=steps as i64).rev().map(|i| i * ratio + config.steps_offset).collect()
            }
            Spacing::Trailing => trailing(last, train, steps),
        };
        ensure!(
            places.len() == steps,
            "option lambda_min_clipped = {} leaves {} of {steps} steps with trailing spacing",
            self.options.lambda_min_clipped,
            places.len()
        );
        self.noise.check(&places)?;
        Ok(places)
    }
}

impl SolverConfig for DpmSolverMultistep {
    fn solver(&self, steps: usize, _options: &SolverOptions) -> Result<Box<dyn Solver>> {
        let mut places = self.places(steps)?;
        let (largest, smallest) = (self.training[self.training.len() - 1], self.training[0]);
        let spread = self.options.sigmas.spread(f64::from(largest), f64::from(smallest), steps);
        let sigmas: Vec<f64> = match spread {
            None => places.iter().map(|&t| sigmas::at(&self.training, t as f64)).collect(),
            Some(spread) => {
                let cosine = self.noise.config.beta_schedule == BetaSchedule::SquaredCosine;
                let rounded = self.options.sigmas.use_karras_sigmas && !cosine;
                let time = |sigma: &f64| sigmas::time_of(&self.training, *sigma);
                let place = |t: f64| if rounded { t.round_ties_even() as i64 } else { t as i64 };
                places = spread.iter().map(|sigma| place(time(sigma))).collect();
                spread
            }
        };
        let mut sigmas: Vec<f64> = sigmas.into_iter().map(|sigma| f64::from(sigma as f32)).collect();
        sigmas.push(f64::from(self.options.sigmas.last(&self.training)));
        let timesteps = places.into_iter().map(|t| t as f64).collect();
        Ok(Box::new(DpmSteps { scheduler: self.clone(), timesteps, sigmas, before: None }))
    }
}

#[derive(Debug)]
struct DpmSteps {
    scheduler: DpmSolverMultistep,
    timesteps: Vec<f64>,
    /// One more than there are steps.
    sigmas: Vec<f64>,
    /// The picture that the step before saw.
    before: Option<Tensor>,
}

/// A point of the schedule: shares of picture and noise, and the logarithm of their ratio.
struct Point {
    alpha: f64,
    sigma: f64,
    lambda: f64,
}

impl DpmSteps {
    fn point(&self, index: usize) -> Point {
        let ratio = self.sigmas[index];
        let alpha = 1.0 / (ratio * ratio + 1.0).sqrt();
        Point { alpha, sigma: ratio * alpha, lambda: -ratio.ln() }
    }

    /// Whether step `index` looks back at the one before.
    fn second_order(&self, index: usize) -> bool {
        let options = &self.scheduler.options;
        let few = options.lower_order_final && self.timesteps.len() < FEW_STEPS;
        let to_zero = options.sigmas.final_sigmas_type == FinalSigma::Zero;
        let last = index + 1 == self.timesteps.len();
        options.solver_order > 1 && !(last && (options.euler_at_final || few || to_zero))
    }
}

impl Solver for DpmSteps {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn skip(&mut self, _first: usize) {
        self.before = None;
    }

    fn add_noise(&self, original: &Tensor, noise: &Tensor, index: usize) -> Tensor {
        // Each number is rounded in the latents' own type.
        let round = |value: f64| in_kind(value, original.kind());
        let ratio = round(self.sigmas[index]);
        let alpha = round(1.0 / round(round(round(ratio * ratio) + 1.0).sqrt()));
        original * alpha + noise * round(ratio * alpha)
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        _noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (now, next) = (self.point(index), self.point(index + 1));
        let (sample, output) = (sample.to_kind(Kind::Float), model_output.to_kind(Kind::Float));
        let picture = match self.scheduler.noise.config.prediction_type {
            Prediction::Epsilon => (&sample - output * now.sigma) / now.alpha,
            Prediction::Velocity => &sample * now.alpha - output * now.sigma,
            Prediction::Sample => output,
        };
        let step = next.lambda - now.lambda;
        let along = next.alpha * (-step).exp_m1();
        let mut moved = sample * (next.sigma / now.sigma) - &picture * along;
        let before = self.before.take().filter(|_| self.second_order(index));
        if let (Some(before), Some(previous)) = (before, index.checked_sub(1)) {
            let share = (now.lambda - self.point(previous).lambda) / step;
            let weight = match self.scheduler.options.solver_type {
                SolverType::Midpoint => -0.5 * along,
                SolverType::Heun => along / step + next.alpha,
            };
            moved += (&picture - before) * (weight / share);
        }
        self.before = Some(picture);
        Ok(moved.to_kind(model_output.kind()))
    }
}
