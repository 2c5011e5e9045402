//! What a run of any kind needs of models, as a trait: runs can be tested without any.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::error::usage;
use crate::metrics::image::Embedder;
use crate::metrics::image::features::FeatureNet;
use crate::metrics::image::networks::Network;
use crate::models::{self, CaptionOptions, Captioner};
use crate::runtime::{DtypeChoice, Runtime, total_memory};

/// What a model of a run is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Captioner,
    Generator,
    /// Low-rank adapters of generators.
    Lora,
    /// The art-Inception network.
    Inception,
    /// LPIPS, its convolutions.
    LpipsBackbone,
    /// LPIPS, its linear heads.
    LpipsLinear,
    /// A network that some metrics ask for.
    Network(Network),
}

/// A model that a run needs, by the name that its configuration has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    pub name: String,
    pub role: Role,
}

impl Needed {
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self { name: name.into(), role }
    }
}

/// Where a run gets its captioners, and what it must know of the machine.
pub trait Captioners {
    /// The file or folder of a model; one that is not to be found is an error. Loads nothing.
    fn find(&self, needed: &Needed) -> Result<PathBuf>;

    /// Refuses captions that this captioner could make of no picture, and models that do not describe pictures. Loads
    /// no weights.
    fn check_captions(&self, captioner: &str, options: &CaptionOptions) -> Result<()>;

    fn captioner(&self, name: &str) -> Result<Box<dyn Captioner>>;

    /// A network that some metrics ask for.
    fn embedder(&self, network: Network, name: &str) -> Result<Box<dyn Embedder>> {
        bail!("there is no {} {name} here", network.model())
    }

    /// Pictures at a time where the configuration does not say.
    fn batch_size(&self) -> usize;

    /// Device and number type, for the manifest.
    fn place(&self) -> (String, String);
}

/// Where every model is that a run needs, by its name in the configuration.
pub fn find_all<M: Captioners + ?Sized>(needed: &[Needed], models: &M) -> Result<Vec<(String, PathBuf)>> {
    needed.iter().map(|needed| Ok((needed.name.clone(), models.find(needed)?))).collect()
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

impl Captioners for OnThisMachine {
    fn find(&self, needed: &Needed) -> Result<PathBuf> {
        match needed.role {
            Role::Captioner | Role::Generator => Ok(models::locate(&needed.name, &self.runtime)?.path),
            Role::Lora => {
                let path = PathBuf::from(&needed.name);
                if path.is_file() { Ok(path) } else { Err(usage(format!("axis lora: {}: no such file", needed.name))) }
            }
            Role::Inception => models::locate_inception(&needed.name, &self.runtime),
            Role::LpipsBackbone => models::locate_lpips_backbone(&needed.name, &self.runtime),
            Role::LpipsLinear => models::locate_lpips_linear(&needed.name, &self.runtime),
            Role::Network(network) => network.locate(&needed.name, &self.runtime),
        }
    }

    fn check_captions(&self, captioner: &str, options: &CaptionOptions) -> Result<()> {
        models::check_captions(captioner, options, &self.runtime)
    }

    fn captioner(&self, name: &str) -> Result<Box<dyn Captioner>> {
        models::load_captioner(name, &self.runtime)
    }

    fn embedder(&self, network: Network, name: &str) -> Result<Box<dyn Embedder>> {
        // Measures are not worth a coarser number type.
        let runtime = Runtime { dtype: DtypeChoice::Float32, ..self.runtime };
        Ok(Box::new(FeatureNet::open(network, Some(name), &runtime)?))
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
