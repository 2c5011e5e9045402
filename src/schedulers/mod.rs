//! Noise schedules and solver steps of diffusion models: pure, no weights.
//!
//! Two families: flow matching ([`FlowMatchEuler`]), and the solvers of models that predict noise, which share one noise
//! schedule and can be switched over it: a file each, and a row each in [`SCHEDULERS`].

mod ddim;
mod dpm_solver;
mod euler;
mod flow_match_euler;
mod heun;
mod name;
mod noise;
mod options;
mod pndm;
mod sigmas;
mod solver;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

pub use flow_match_euler::{FlowMatchEuler, FlowMatchEulerConfig, Schedule, flow_match_first_step};
pub use name::SchedulerName;
pub use options::SolverOptions;
pub use solver::{Solver, SolverConfig, first_step};

use crate::checkpoints::config;
use crate::error::usage;

/// A solver over a noise schedule.
#[derive(Debug)]
pub struct SchedulerEntry {
    /// In files and on the command line.
    pub name: &'static str,
    /// The class that `scheduler_config.json` names.
    pub class: &'static str,
    /// One line for the help.
    pub about: &'static str,
    /// The names of the [`SolverOptions`] that it takes.
    pub options: &'static [&'static str],
    /// From the options of `scheduler_config.json`, without those that are null. An option that is not built is an error.
    build: fn(&Value) -> Result<Box<dyn SolverConfig>>,
}

/// All solvers, in the order of the help. A new one is one row here.
pub const SCHEDULERS: &[SchedulerEntry] = &[
    SchedulerEntry {
        name: "pndm",
        class: "PNDMScheduler",
        about: "Pseudo numerical methods, of fourth order",
        options: &[],
        build: |options| Ok(Box::new(pndm::Pndm::new(options)?)),
    },
    SchedulerEntry {
        name: "ddim",
        class: "DDIMScheduler",
        about: "Denoising diffusion implicit models, without added noise",
        options: ddim::OPTIONS,
        build: |options| Ok(Box::new(ddim::Ddim::new(options)?)),
    },
    SchedulerEntry {
        name: "euler",
        class: "EulerDiscreteScheduler",
        about: "Euler's method along sigmas",
        options: &[],
        build: |options| Ok(Box::new(euler::Euler::new(options)?)),
    },
    SchedulerEntry {
        name: "euler-ancestral",
        class: "EulerAncestralDiscreteScheduler",
        about: "Euler's method with new noise after each step",
        options: &[],
        build: |options| Ok(Box::new(euler::Euler::ancestral(options)?)),
    },
    SchedulerEntry {
        name: "dpmsolver++",
        class: "DPMSolverMultistepScheduler",
        about: "DPM-Solver++, multistep, second order",
        options: &[],
        build: |options| Ok(Box::new(dpm_solver::DpmSolverMultistep::new(options)?)),
    },
    SchedulerEntry {
        name: "heun",
        class: "HeunDiscreteScheduler",
        about: "Heun's method along sigmas: second order, two looks at the picture a step",
        options: &[],
        build: |options| Ok(Box::new(heun::Heun::new(options)?)),
    },
];

/// A solver with the options of its configuration.
#[derive(Debug)]
pub struct Scheduler {
    name: SchedulerName,
    config: Box<dyn SolverConfig>,
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
        let name = match (name, config["_class_name"].as_str()) {
            (Some(name), _) => name,
            (None, Some(class)) => SchedulerName::of_class(class)?,
            (None, None) => return Err(usage("the scheduler's configuration has no _class_name")),
        };
        // `null` stands for the default.
        let options: Map<String, Value> = config.as_object().cloned().unwrap_or_default();
        let options = Value::Object(options.into_iter().filter(|(_, value)| !value.is_null()).collect());
        let SchedulerEntry { class, build, .. } = name.entry();
        let config = build(&options).map_err(|error| usage(format!("{class}: {error:#}")))?;
        Ok(Self { name, config })
    }

    /// Which solver this is.
    pub fn name(&self) -> SchedulerName {
        self.name
    }

    /// The way from noise to a picture in `steps` steps.
    pub fn schedule(&self, steps: usize) -> Result<Box<dyn Solver>> {
        self.schedule_with(steps, &SolverOptions::default())
    }

    /// The same with options; those that the solver does not take are wrong usage.
    pub fn schedule_with(&self, steps: usize, options: &SolverOptions) -> Result<Box<dyn Solver>> {
        options.check(self.name.entry().options, &format!("scheduler {}", self.name))?;
        if steps == 0 {
            return Err(usage("at least one denoising step is needed"));
        }
        // Which steps there can be follows from the configuration.
        self.config.solver(steps, options).map_err(|error| usage(format!("{error:#}")))
    }
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
