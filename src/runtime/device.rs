//! Where tensors live and in which number type.

use anyhow::Result;
use tch::{Cuda, Device, Kind};

use super::cuda::{cuda_is_likely, load_cuda};
use super::cuda_shim::use_device;
use super::gpus::{check_float8, several_devices};
use super::threads::Background;
use super::wake::wake_gpu;
use super::{limit_memory, log_moment};
use crate::error::usage;

/// Number type of weights, as users choose it. Auto: float32 on the CPU, on CUDA each model's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DtypeChoice {
    Auto,
    Float32,
    Float16,
    Bfloat16,
    /// Each model's own, and the linear layers of a generator that can in float8 (e4m3): `--precision fp8`.
    #[value(skip)]
    Float8,
}

/// How this choice is written into what a run and a picture say of themselves.
pub const FP8: &str = "fp8";

/// The number types that a generator computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// Of everything, but for the layers that `float8` says.
    pub kind: Kind,
    /// Whether the linear layers of its transformer are in float8.
    pub float8: bool,
}

impl From<Kind> for Precision {
    fn from(kind: Kind) -> Self {
        Self { kind, float8: false }
    }
}

/// What users choose about where and how models run.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// `auto`, `cpu`, `cuda` or `cuda:N`; of several (see [`several_devices`]) the first.
    pub device: String,
    pub dtype: DtypeChoice,
    /// CPU threads; None = all cores.
    pub threads: Option<usize>,
    /// Device memory to use at most, in GiB; None = what is free.
    pub memory_limit: Option<f64>,
    /// Whether the network is never used.
    pub offline: bool,
}

/// The choices of a run: device, number type, network.
#[derive(Debug, Clone, Copy)]
pub struct Runtime {
    pub device: Device,
    pub dtype: DtypeChoice,
    pub offline: bool,
}

impl Runtime {
    /// The part of [`Self::new`] that takes no time: sets the number of threads, and tells whether a GPU
    /// will be used, as far as that can be told before CUDA is loaded. Work that needs no device can start
    /// in between.
    pub fn foresee(options: impl Into<RuntimeOptions>) -> Result<bool> {
        Self::foresee_with(&options.into())
    }

    fn foresee_with(options: &RuntimeOptions) -> Result<bool> {
        if let Some(threads) = options.threads {
            if threads == 0 {
                return Err(usage("--threads must be at least 1"));
            }
            tch::set_num_threads(threads as i32);
            // Only the first call sets the pool; a second run in the same process keeps it.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        }
        Ok(!options.device.starts_with("cpu") && cuda_is_likely())
    }

    /// Loads CUDA in the background, where a GPU will be used, and does nothing more: [`Self::new`] then takes less time,
    /// and says what goes wrong.
    pub fn begin(options: impl Into<RuntimeOptions>) -> Option<Background> {
        let options = RuntimeOptions { memory_limit: None, ..options.into() };
        let for_gpu = Self::foresee_with(&options).ok()?;
        for_gpu.then(|| Background::start(move || drop(Self::new(options))))
    }

    /// An unknown or absent device is wrong usage.
    pub fn new(options: impl Into<RuntimeOptions>) -> Result<Self> {
        let mut options = options.into();
        if let Some([first, ..]) = several_devices(&options.device)?.as_deref() {
            tracing::info!("one device is used here: {first}");
            options.device = first.clone();
        }
        if Self::foresee_with(&options)? {
            let _waking = wake_gpu(options.device.strip_prefix("cuda:").and_then(|n| n.parse().ok()).unwrap_or(0));
            load_cuda();
            log_moment("the libraries of CUDA are loaded");
        } else if options.device != "cpu" {
            load_cuda();
        }
        let device = match options.device.as_str() {
            "cpu" => Device::Cpu,
            "auto" => Device::cuda_if_available(),
            "cuda" => Device::Cuda(0),
            other => match other.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
                Some(n) => Device::Cuda(n),
                None => {
                    return Err(usage(format!("unknown device {other:?}: use auto, cpu, cuda, cuda:N or cuda:all")));
                }
            },
        };
        if let Device::Cuda(n) = device
            && (n as i64) >= Cuda::device_count()
        {
            return Err(usage(format!(
                "device cuda:{n} is not here ({} CUDA devices found; CUDA: {}): use --device cpu, or see `toolkit doctor`",
                Cuda::device_count(),
                load_cuda()
            )));
        }
        if let Device::Cuda(n) = device {
            use_device(n)?;
            if options.dtype == DtypeChoice::Float8 {
                check_float8(n)?;
            }
        }
        if let Some(gib) = options.memory_limit {
            if !(gib > 0.0 && gib.is_finite()) {
                return Err(usage("--memory-limit must be more than 0 GiB"));
            }
            limit_memory(device, (gib * (1u64 << 30) as f64) as u64)?;
        }
        if let Device::Cuda(n) = device {
            super::shim::fix_attention_order(n);
            // libtorch lets cuDNN round float32 convolutions to TensorFloat-32, three digits: scores
            // would differ between CPU and CUDA. Who asks for float32 gets it.
            super::precision::forbid_tf32();
            log_moment("the device is ready");
        }
        Ok(Self { device, dtype: options.dtype, offline: options.offline })
    }

    /// The number type of a model: what was asked for, else float32 on CPU and `cuda_default` on CUDA.
    pub fn kind(&self, cuda_default: Kind) -> Kind {
        match (self.dtype, self.device) {
            (DtypeChoice::Float32, _) => Kind::Float,
            (DtypeChoice::Float16, _) => Kind::Half,
            (DtypeChoice::Bfloat16, _) => Kind::BFloat16,
            (DtypeChoice::Auto | DtypeChoice::Float8, Device::Cpu) => Kind::Float,
            (DtypeChoice::Auto | DtypeChoice::Float8, _) => cuda_default,
        }
    }

    /// The number types of a generator. With float8 layers the others are in its own type on every device, so that the
    /// CPU imitates what a GPU computes.
    pub fn precision(&self, cuda_default: Kind) -> Precision {
        match self.dtype {
            DtypeChoice::Float8 => Precision { kind: cuda_default, float8: true },
            _ => self.kind(cuda_default).into(),
        }
    }
}
