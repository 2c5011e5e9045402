//! Kernels by name: compiled when they are first wanted, for the device and the type of the tensors.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::fits;
use super::source::Source;
use crate::runtime::kernel::{Argument, Kernel, Kernels, give_up_on};

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

    /// The same for a kernel that waits for the one before it by itself: within [`with_dependent_launch`] it
    /// may start before that one has ended.
    ///
    /// # Safety
    /// As of [`Kernel::launch`]. Before `wait_for_previous` the kernel may only read what is as it is
    /// for longer than the work that is overlapped.
    pub unsafe fn launch_dependent(
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
pub fn with_dependent_launch<T>(work: impl FnOnce() -> T) -> T {
    let before = OVERLAPPED.replace(true);
    let out = work();
    OVERLAPPED.set(before);
    out
}
