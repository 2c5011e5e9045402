//! What a run needs of models, as a trait: the runner can be tested without any.

use std::path::PathBuf;

use anyhow::Result;
use tch::Kind;

use super::config::Config;
use crate::axes::{captioner, generator};
use crate::error::usage;
pub use crate::metrics::image::Judge;
use crate::metrics::image::artfid::ArtFidNets;
use crate::models::{self, CaptionOptions, Captioner, Generator, Outline};
use crate::prompts::TokenBudget;
use crate::runtime::{DtypeChoice, Runtime, total_memory};

/// Where a run gets its models.
pub trait Models {
    /// The files of every model of the run, by the name it has in the configuration; a model that
    /// is not to be found is an error. Loads nothing.
    fn find(&self, config: &Config) -> Result<Vec<(String, PathBuf)>>;

    /// What a generator's text encoder can take, without its weights.
    fn token_budget(&self, generator: &str) -> Result<TokenBudget>;

    /// A generator without its weights.
    fn outline(&self, generator: &str) -> Result<Box<dyn Outline>>;

    /// Refuses captions that this captioner could make of no photo.
    fn check_captions(&self, captioner: &str, options: &CaptionOptions) -> Result<()>;

    /// Whether a generator can be told which scheduler to draw with.
    fn takes_schedulers(&self, generator: &str) -> Result<bool>;

    fn captioner(&self, name: &str) -> Result<Box<dyn Captioner>>;

    fn generator(&self, name: &str) -> Result<Box<dyn Generator>>;

    fn judge(&self, config: &Config) -> Result<Box<dyn Judge>>;

    /// Pictures at a time where the configuration does not say.
    fn batch_size(&self) -> usize;

    /// Device and number type, for the manifest.
    fn place(&self) -> (String, String);
}

/// The models of this machine and the hub.
#[derive(Debug)]
pub struct OnThisMachine {
    runtime: Runtime,
}

impl OnThisMachine {
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime }
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl Models for OnThisMachine {
    fn find(&self, config: &Config) -> Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for name in config.axes.texts(&captioner::AXIS).chain(config.axes.texts(&generator::AXIS)) {
            found.push((name.to_string(), models::locate(name, &self.runtime)?.path));
        }
        for (name, path) in &found {
            let draws = config.axes.texts(&generator::AXIS).any(|generator| generator == name);
            if config.safety_checker && draws && !path.join("safety_checker/config.json").is_file() {
                return Err(usage(format!(
                    "safety_checker = true, but {name} has no safety checker in {}",
                    path.display()
                )));
            }
        }
        found.push((config.inception.clone(), models::locate_inception(&config.inception, &self.runtime)?));
        let lpips = models::locate_lpips(&config.lpips_backbone, &config.lpips_linear, &self.runtime)?;
        found.push((config.lpips_backbone.clone(), lpips.backbone));
        found.push((config.lpips_linear.clone(), lpips.linear));
        Ok(found)
    }

    fn token_budget(&self, generator: &str) -> Result<TokenBudget> {
        models::load_token_budget(generator, &self.runtime)
    }

    fn outline(&self, generator: &str) -> Result<Box<dyn Outline>> {
        models::load_outline(generator, &self.runtime)
    }

    fn check_captions(&self, captioner: &str, options: &CaptionOptions) -> Result<()> {
        models::check_captions(captioner, options, &self.runtime)
    }

    fn takes_schedulers(&self, generator: &str) -> Result<bool> {
        Ok(models::locate(generator, &self.runtime)?.family.takes_schedulers())
    }

    fn captioner(&self, name: &str) -> Result<Box<dyn Captioner>> {
        models::load_captioner(name, &self.runtime)
    }

    fn generator(&self, name: &str) -> Result<Box<dyn Generator>> {
        models::load_generator(name, &self.runtime)
    }

    fn judge(&self, config: &Config) -> Result<Box<dyn Judge>> {
        let inception = models::locate_inception(&config.inception, &self.runtime)?;
        let lpips = models::locate_lpips(&config.lpips_backbone, &config.lpips_linear, &self.runtime)?;
        // Measures are not worth a coarser number type.
        let nets = ArtFidNets::load(&inception, &lpips.backbone, &lpips.linear, self.runtime.device, Kind::Float)?;
        Ok(Box::new(nets))
    }

    /// On the CPU a batch saves nothing, and single pictures make results independent of how the
    /// work was split. On a GPU one picture for each 10 GB of its memory, up to 8, leaves room for
    /// the weights of the published models.
    fn batch_size(&self) -> usize {
        (total_memory(self.runtime.device).unwrap_or(0) / 10_000_000_000).clamp(1, 8) as usize
    }

    fn place(&self) -> (String, String) {
        let device = match self.runtime.device {
            tch::Device::Cuda(n) => format!("cuda:{n}"),
            _ => "cpu".to_string(),
        };
        let dtype = match (self.runtime.dtype, self.runtime.device) {
            (DtypeChoice::Float32, _) | (DtypeChoice::Auto, tch::Device::Cpu) => "float32",
            (DtypeChoice::Float16, _) => "float16",
            (DtypeChoice::Bfloat16, _) => "bfloat16",
            (DtypeChoice::Auto, _) => "each model's own",
        };
        (device, dtype.to_string())
    }
}
