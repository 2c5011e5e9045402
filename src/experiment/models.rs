//! What a run of any kind needs of models, as a trait: runs can be tested without any.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::error::usage;
use crate::metrics::image::Embedder;
use crate::metrics::image::features::FeatureNet;
use crate::metrics::image::networks::Network;
use crate::models::{self, CaptionOptions, Captioner, Preprocess, random};
use crate::pipelines::captions_at_once;
use crate::runtime::{DtypeChoice, FP8, Runtime, RuntimeOptions, gpu_memory, load_cuda, total_memory};
use crate::workers::Team;

/// What a model of a run is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Captioner,
    Generator,
    /// Low-rank adapters of generators.
    Lora,
    /// What lets a picture steer a generator.
    ControlNet,
    /// IP-Adapters of generators.
    IpAdapter,
    /// The pictures that those are shown: a file, or a folder.
    IpImages,
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

    /// How this captioner has photos preprocessed.
    fn captioner_preprocess(&self, _name: &str) -> Result<Option<Preprocess>> {
        Ok(None)
    }

    /// A network that some metrics ask for.
    fn embedder(&self, network: Network, name: &str) -> Result<Box<dyn Embedder>> {
        bail!("there is no {} {name} here", network.model())
    }

    /// Pictures at a time where the configuration does not say.
    fn batch_size(&self) -> usize;

    /// The same for captions of so many pictures.
    fn captions_at_once(&self, _pictures: usize) -> usize {
        self.batch_size()
    }

    /// Device and number type, for the manifest.
    fn place(&self) -> (String, String);

    /// Whether the models have random weights, which the workers then make too.
    fn has_random_weights(&self) -> bool {
        false
    }

    /// Who shares the work; None: this process does it.
    fn team(&self) -> Option<&Team> {
        None
    }
}

/// Where every model is that a run needs, by its name in the configuration.
pub fn find_all<M: Captioners + ?Sized>(needed: &[Needed], models: &M) -> Result<Vec<(String, PathBuf)>> {
    needed.iter().map(|needed| Ok((needed.name.clone(), models.find(needed)?))).collect()
}

/// The models of this machine and the hub.
#[derive(Debug)]
pub struct OnThisMachine {
    runtime: Runtime,
    team: Option<Team>,
    /// What makes the runtime of the first device of a team, which only some metrics need in this process.
    options: Option<RuntimeOptions>,
    /// Where there would be files, where the models have random weights and none.
    no_files: Option<PathBuf>,
}

impl OnThisMachine {
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime, team: None, options: None, no_files: None }
    }

    /// The same with random weights for built-in names, the published sizes, made on the device: nothing is read or
    /// downloaded. `no_files` is a folder in which there is nothing.
    pub fn with_random_weights(self, no_files: PathBuf) -> Self {
        Self { no_files: Some(no_files), ..self }
    }

    /// The same with workers, so that this process computes nothing on a GPU. `options` are those of the first device.
    pub fn with_team(team: Team, options: RuntimeOptions) -> Result<Self> {
        Runtime::foresee(options.clone())?;
        if options.device != "cpu" {
            // Before libtorch is asked for anything.
            load_cuda();
        }
        let runtime = Runtime { device: tch::Device::Cpu, dtype: options.dtype, offline: options.offline };
        Ok(Self { runtime, team: Some(team), options: Some(options), no_files: None })
    }

    /// Where this process computes what no worker does.
    fn first_device(&self) -> Result<Runtime> {
        self.options.clone().map_or(Ok(self.runtime), Runtime::new)
    }

    /// The GPUs that compute.
    pub fn gpus(&self) -> Vec<usize> {
        match self.runtime.device {
            tch::Device::Cuda(gpu) => vec![gpu],
            _ => self.team_gpus().collect(),
        }
    }

    /// GPUs of the team; none without one.
    fn team_gpus(&self) -> impl Iterator<Item = usize> {
        let devices = self.team.iter().flat_map(|team| &team.devices);
        devices.filter_map(|device| device.strip_prefix("cuda:")?.parse().ok())
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl Captioners for OnThisMachine {
    fn find(&self, needed: &Needed) -> Result<PathBuf> {
        if let Some(nowhere) = &self.no_files {
            return Ok(nowhere.clone());
        }
        match needed.role {
            Role::Captioner => Ok(models::locate_captioner(&needed.name, &self.runtime)?.path),
            Role::Generator => Ok(models::locate_generator(&needed.name, &self.runtime)?.path),
            Role::Lora => models::locate_lora(&needed.name, self.runtime.offline),
            Role::ControlNet => models::locate_controlnet(&needed.name, self.runtime.offline),
            Role::IpAdapter => models::locate_ip_adapter(&needed.name, self.runtime.offline),
            Role::IpImages => {
                let path = PathBuf::from(&needed.name);
                if path.exists() {
                    Ok(path)
                } else {
                    Err(usage(format!("axis ip_adapter: {}: no such picture or folder", needed.name)))
                }
            }
            Role::Inception => models::locate_inception(&needed.name, &self.runtime),
            Role::LpipsBackbone => models::locate_lpips_backbone(&needed.name, &self.runtime),
            Role::LpipsLinear => models::locate_lpips_linear(&needed.name, &self.runtime),
            Role::Network(network) => network.locate(&needed.name, &self.runtime),
        }
    }

    fn check_captions(&self, captioner: &str, options: &CaptionOptions) -> Result<()> {
        if self.has_random_weights() {
            return random::check_captioner(captioner);
        }
        models::check_captions(captioner, options, &self.runtime)
    }

    fn captioner(&self, name: &str) -> Result<Box<dyn Captioner>> {
        if self.has_random_weights() {
            return random::captioner(name, &self.runtime);
        }
        models::load_captioner(name, &self.runtime)
    }

    fn captioner_preprocess(&self, name: &str) -> Result<Option<Preprocess>> {
        if self.has_random_weights() {
            return Ok(None);
        }
        models::captioner_preprocess(name, &self.runtime)
    }

    fn embedder(&self, network: Network, name: &str) -> Result<Box<dyn Embedder>> {
        if self.has_random_weights() {
            return Err(usage(format!("{} is not made of random weights: leave its metrics out", network.model())));
        }
        // Measures are not worth a coarser number type.
        let runtime = Runtime { dtype: DtypeChoice::Float32, ..self.first_device()? };
        Ok(Box::new(FeatureNet::open(network, Some(name), &runtime)?))
    }

    /// On the CPU a batch saves nothing, and single pictures make results independent of how the
    /// work was split. On a GPU one picture for each 10 GB of its memory, up to 8, leaves room for
    /// the weights of the published models.
    fn batch_size(&self) -> usize {
        let limit = self.options.as_ref().and_then(|options| options.memory_limit);
        let limit = limit.map_or(u64::MAX, |gib| (gib * (1u64 << 30) as f64) as u64);
        let of_team = self.team_gpus().filter_map(gpu_memory).min().map(|bytes| bytes.min(limit));
        let memory = of_team.or_else(|| total_memory(self.runtime.device)).unwrap_or(0);
        (memory / 10_000_000_000).clamp(1, 8) as usize
    }

    fn captions_at_once(&self, pictures: usize) -> usize {
        let is_gpu = self.runtime.device.is_cuda() || self.team_gpus().next().is_some();
        if is_gpu { captions_at_once(pictures) } else { self.batch_size() }
    }

    fn place(&self) -> (String, String) {
        let device = match (&self.team, self.runtime.device) {
            (Some(team), _) => team.devices.join(","),
            (None, tch::Device::Cuda(n)) => format!("cuda:{n}"),
            _ => "cpu".to_string(),
        };
        let dtype = match (self.runtime.dtype, device.starts_with("cpu")) {
            (DtypeChoice::Float32, _) | (DtypeChoice::Auto, true) => "float32",
            (DtypeChoice::Float8, _) => FP8,
            (DtypeChoice::Float16, _) => "float16",
            (DtypeChoice::Bfloat16, _) => "bfloat16",
            (DtypeChoice::Auto, _) => "each model's own",
        };
        (device, dtype.to_string())
    }

    fn has_random_weights(&self) -> bool {
        self.no_files.is_some()
    }

    fn team(&self) -> Option<&Team> {
        self.team.as_ref()
    }
}
