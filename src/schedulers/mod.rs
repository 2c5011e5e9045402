//! Noise schedules and solver steps of diffusion models: pure, no weights.
//!
//! Two families: flow matching ([`FlowMatchEuler`]), and the solvers of models that predict noise
//! ([`Scheduler`]), which share one noise schedule and can be switched over it.

mod ddim;
mod dpm_solver;
mod euler;
mod flow_match_euler;
mod noise;
mod options;
mod pndm;
mod sigmas;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Tensor;

pub use ddim::Ddim;
pub use dpm_solver::DpmSolverMultistep;
pub use euler::Euler;
pub use flow_match_euler::{FlowMatchEuler, FlowMatchEulerConfig, Schedule};
pub use options::SolverOptions;
pub use pndm::Pndm;

use crate::checkpoints::config;
use crate::error::usage;

/// A solver over a noise schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchedulerName {
    /// Pseudo numerical methods, of fourth order
    Pndm,
    /// Denoising diffusion implicit models, without added noise
    Ddim,
    /// Euler's method along sigmas
    Euler,
    /// Euler's method with new noise after each step
    EulerAncestral,
    /// DPM-Solver++, multistep, second order
    #[value(name = "dpmsolver++")]
    #[serde(rename = "dpmsolver++")]
    DpmSolverMultistep,
}

impl SchedulerName {
    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pndm => "pndm",
            Self::Ddim => "ddim",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler-ancestral",
            Self::DpmSolverMultistep => "dpmsolver++",
        }
    }

    /// The class that `scheduler_config.json` names.
    fn class(self) -> &'static str {
        match self {
            Self::Pndm => "PNDMScheduler",
            Self::Ddim => "DDIMScheduler",
            Self::Euler => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::DpmSolverMultistep => "DPMSolverMultistepScheduler",
        }
    }

    /// The names of the [`SolverOptions`] that it takes.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Self::Ddim => ddim::OPTIONS,
            _ => &[],
        }
    }

    fn of_class(class: &str) -> Result<Self> {
        Self::value_variants().iter().copied().find(|name| name.class() == class).with_context(|| {
            let known: Vec<&str> = Self::value_variants().iter().map(|name| name.class()).collect();
            format!("scheduler {class} is not known here: {}", known.join(", "))
        })
    }
}

impl std::fmt::Display for SchedulerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A solver with the options of its configuration.
#[derive(Debug, Clone)]
pub enum Scheduler {
    Pndm(Pndm),
    Ddim(Ddim),
    Euler(Euler),
    EulerAncestral(Euler),
    DpmSolverMultistep(DpmSolverMultistep),
}

impl Scheduler {
    /// From a pipeline's `scheduler_config.json`: its `_class_name` picks the solver, unless another
    /// one is named, which then reads the same file, as `from_config` of diffusers does. Outdated
    /// files are read as diffusers' Stable Diffusion pipelines read them.
    pub fn from_config(path: &Path, name: Option<SchedulerName>) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        // Python writes an infinite number in a way that JSON does not know.
        let text = text.replace("-Infinity", "-1e308");
        let config: Value = config::parse(text.as_bytes()).with_context(|| path.display().to_string())?;
        Self::new(&brought_up_to_date(&config), name).with_context(|| path.display().to_string())
    }

    /// From a configuration as it stands. An option that is not built here is wrong configuration.
    pub fn new(config: &Value, name: Option<SchedulerName>) -> Result<Self> {
        let class = config["_class_name"].as_str();
        let name = match (name, class) {
            (Some(name), _) => name,
            (None, Some(class)) => SchedulerName::of_class(class).map_err(|error| usage(error.to_string()))?,
            (None, None) => return Err(usage("the scheduler's configuration has no _class_name")),
        };
        // `null` stands for the default.
        let options: Map<String, Value> = config.as_object().cloned().unwrap_or_default();
        let options = Value::Object(options.into_iter().filter(|(_, value)| !value.is_null()).collect());
        let built = match name {
            SchedulerName::Pndm => Pndm::new(&options).map(Self::Pndm),
            SchedulerName::Ddim => Ddim::new(&options).map(Self::Ddim),
            SchedulerName::Euler => Euler::new(&options).map(Self::Euler),
            SchedulerName::EulerAncestral => Euler::ancestral(&options).map(Self::EulerAncestral),
            SchedulerName::DpmSolverMultistep => DpmSolverMultistep::new(&options).map(Self::DpmSolverMultistep),
        };
        built.map_err(|error| usage(format!("{}: {error:#}", name.class())))
    }

    /// Which solver this is.
    pub fn name(&self) -> SchedulerName {
        match self {
            Self::Pndm(_) => SchedulerName::Pndm,
            Self::Ddim(_) => SchedulerName::Ddim,
            Self::Euler(_) => SchedulerName::Euler,
            Self::EulerAncestral(_) => SchedulerName::EulerAncestral,
            Self::DpmSolverMultistep(_) => SchedulerName::DpmSolverMultistep,
        }
    }

    /// The way from noise to a picture in `steps` steps.
    pub fn schedule(&self, steps: usize) -> Result<Box<dyn Solver>> {
        self.schedule_with(steps, &SolverOptions::default())
    }

    /// The same with options; those that the solver does not take are wrong usage.
    pub fn schedule_with(&self, steps: usize, options: &SolverOptions) -> Result<Box<dyn Solver>> {
        options.check(self.name().options(), &format!("scheduler {}", self.name()))?;
        if steps == 0 {
            return Err(usage("at least one denoising step is needed"));
        }
        let solver = match self {
            Self::Pndm(scheduler) => scheduler.schedule(steps),
            Self::Ddim(scheduler) => scheduler.schedule(steps, options),
            Self::Euler(scheduler) | Self::EulerAncestral(scheduler) => scheduler.schedule(steps),
            Self::DpmSolverMultistep(scheduler) => scheduler.schedule(steps),
        };
        // Which steps there can be follows from the configuration.
        solver.map_err(|error| usage(format!("{error:#}")))
    }
}

/// The state of one drawing. Every `index` counts in [`Solver::timesteps`], and steps are taken in
/// that order.
pub trait Solver {
    /// The times that the denoiser is told, in the order of denoising. There may be more of them than
    /// steps were asked for: PNDM visits one or several twice.
    fn timesteps(&self) -> &[f64];

    /// What standard normal noise is multiplied with where nothing but noise is the start.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// The first step will be `first` of [`Solver::timesteps`]: a picture that starts from a photo
    /// leaves out the steps before. What a solver remembers of earlier steps is forgotten.
    fn skip(&mut self, first: usize);

    /// The sample as the denoiser reads it.
    fn scale_model_input(&self, sample: &Tensor, _index: usize) -> Tensor {
        sample.shallow_clone()
    }

    /// A clean sample with as much noise as step `index` expects, in the sample's number type.
    fn add_noise(&self, original: &Tensor, noise: &Tensor, index: usize) -> Tensor;

    /// The sample after step `index`, computed in float32 and given in the number type of
    /// `model_output`. `noise` draws standard normal noise of the sample's shape.
    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Tensor>;
}

/// The photo's part of the schedule: where [`Solver::skip`] goes for a `strength` from 0 (nothing is
/// drawn) to 1 (nothing of the photo is kept), as diffusers counts.
pub fn first_step(steps: usize, strength: f64) -> usize {
    steps - ((steps as f64 * strength) as usize).min(steps)
}

/// What the pipelines of diffusers change in the files of the first releases.
fn brought_up_to_date(config: &Value) -> Value {
    let mut config = config.clone();
    let class = config["_class_name"].as_str().unwrap_or_default().to_string();
    // An option that is not in the file counts only for the class of the file: another one that is
    // switched to has its own default.
    if config["steps_offset"].as_i64().is_some_and(|offset| offset != 1) {
        config["steps_offset"] = Value::from(1);
    }
    if config["clip_sample"] == Value::Bool(true) || (config["clip_sample"].is_null() && class == "DDIMScheduler") {
        config["clip_sample"] = Value::Bool(false);
    }
    config
}
