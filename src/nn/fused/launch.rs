//! Kernels by name: compiled when they are first wanted, for the device and the type of the tensors.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::{feature_maps, few_rows, fits, one_query};
use crate::runtime::kernel::{Argument, Kernel, Kernels, give_up_on};

/// The files of kernels beside this one, with what they are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Norms,
    /// The same, for chains of kernels that start early.
    ChainedNorms,
    Pictures,
    GroupNorm,
    /// Width of a head, and queries that share a key head.
    Decoding(i64, i64),
    /// Width of a head.
    OneQuery(i64),
    /// Groups of 16 outputs that a block computes.
    FewRows(i64),
}

impl Source {
    fn text(self) -> &'static str {
        match self {
            Self::Norms | Self::ChainedNorms => concat!(include_str!("numbers.cuh"), include_str!("norms.cu")),
            Self::Pictures => {
                concat!(include_str!("numbers.cuh"), include_str!("moments.cuh"), include_str!("pictures.cu"))
            }
            Self::GroupNorm => {
                concat!(
                    include_str!("numbers.cuh"),
                    include_str!("moments.cuh"),
                    include_str!("clusters.cuh"),
                    include_str!("group_norm.cu")
                )
            }
            Self::Decoding(..) => concat!(include_str!("numbers.cuh"), include_str!("decoding.cu")),
            Self::OneQuery(_) => {
                concat!(include_str!("numbers.cuh"), include_str!("clusters.cuh"), include_str!("one_query.cu"))
            }
            Self::FewRows(_) => concat!(include_str!("numbers.cuh"), include_str!("few_rows.cu")),
        }
    }

    fn options(self, kind: Kind) -> Vec<String> {
        let number = if kind == Kind::BFloat16 { "-DBF16" } else { "-DF16" };
        let mut options = vec!["--std=c++17".to_string(), number.to_string()];
        match self {
            Self::Norms | Self::ChainedNorms | Self::Pictures | Self::GroupNorm => {}
            Self::Decoding(width, groups) => options.extend([format!("-DWIDTH={width}"), format!("-DGROUPS={groups}")]),
            Self::OneQuery(width) => {
                options.extend([format!("-DWIDTH={width}"), format!("-DTHREADS={}", one_query::THREADS)]);
            }
            Self::FewRows(tiles) => {
                let stages = few_rows::stages(tiles);
                let warps = few_rows::WARPS;
                options.extend([format!("-DTILES={tiles}"), format!("-DSTAGES={stages}"), format!("-DWARPS={warps}")])
            }
        }
        options
    }

    /// Dynamic shared memory of a block at most, for kernels that want as much of it on a
    /// multiprocessor as there is. Where that is the same for all kernels of a chain, one can start
    /// beside the other.
    fn shared_bytes(self) -> Option<i64> {
        match self {
            Self::Norms | Self::Pictures => None,
            Self::ChainedNorms | Self::Decoding(..) | Self::OneQuery(_) => Some(0),
            Self::GroupNorm => Some(feature_maps::MOST_KEPT),
            Self::FewRows(tiles) => Some(few_rows::most_shared_bytes(tiles)),
        }
    }
}

/// A kernel on a device.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    kernel: Kernel,
    device: usize,
}

impl Ready {
    /// The kernel for tensors like `x`; None where there is none.
    pub fn find(x: &Tensor, source: Source, name: &'static str) -> Option<Self> {
        let Device::Cuda(device) = x.device() else { return None };
        if !fits(x) {
            return None;
        }
        let kind = x.kind();
        type Known = HashMap<(usize, bool, Source), Option<(Kernels, HashMap<&'static str, Kernel>)>>;
        static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
        let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let compiled = known.entry((device, kind == Kind::Half, source)).or_insert_with(|| {
            match Kernels::compile(device, name, source.text(), &source.options(kind)) {
                Ok(kernels) => kernels.map(|kernels| (kernels, HashMap::new())),
                Err(error) => {
                    tracing::warn!("plain layers are used, for a kernel does not compile: {error:#}");
                    None
                }
            }
        });
        let (kernels, kept) = compiled.as_mut()?;
        let kernel = match kept.get(name) {
            Some(kernel) => *kernel,
            None => *kept.entry(name).or_insert(kernels.get(name, source.shared_bytes()).ok()?),
        };
        Some(Self { kernel, device })
    }

    /// Starts it. A kernel that cannot be started is not tried again.
    ///
    /// # Safety
    /// As of [`Kernel::launch`].
    pub unsafe fn launch(self, grid: [i64; 3], block: i64, shared_bytes: i64, arguments: &[Argument]) -> Option<()> {
        // SAFETY: as the caller promises.
        self.started(unsafe { self.kernel.launch(self.device, grid, block, shared_bytes, false, arguments) })
    }

    /// The same for a kernel that waits for the one before it by itself: within [`overlapped`] it
    /// may start before that one has ended.
    ///
    /// # Safety
    /// As of [`Kernel::launch`]. Before `wait_for_previous` the kernel may only read what is as it is
    /// for longer than the work that is overlapped.
    pub unsafe fn launch_early(
        self,
        grid: [i64; 3],
        block: i64,
        shared_bytes: i64,
        arguments: &[Argument],
    ) -> Option<()> {
        // SAFETY: as the caller promises.
        self.started(unsafe { self.kernel.launch(self.device, grid, block, shared_bytes, OVERLAPPED.get(), arguments) })
    }

    fn started(self, outcome: Result<()>) -> Option<()> {
        match outcome {
            Ok(()) => Some(()),
            Err(error) => {
                tracing::warn!("cuda:{} computes without custom kernels from now on: {error:#}", self.device);
                give_up_on(self.device);
                None
            }
        }
    }
}

thread_local! {
    static OVERLAPPED: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`, in which a kernel may start while the one before it still runs: it then waits with
/// its weights in hand. For work whose weights were written long before.
pub fn overlapped<T>(work: impl FnOnce() -> T) -> T {
    let before = OVERLAPPED.replace(true);
    let out = work();
    OVERLAPPED.set(before);
    out
}
