//! Work on the GPU that is recorded once and then asked for again as a whole (CUDA graphs): the host
//! no longer starts hundreds of kernels one by one.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use tch::Device;

use super::cuda_shim::{Shim, shim};

/// How often the work runs before it is recorded, so that libraries choose their kernels and take
/// their memory.
const WARM_UPS: usize = 2;

static ENABLED: AtomicBool = AtomicBool::new(true);

/// Whether work is recorded where it can be.
pub fn records() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Does `work` with nothing recorded and nothing replayed, so that both ways can be compared.
pub fn without_recording<T>(work: impl FnOnce() -> T) -> T {
    let before = ENABLED.swap(false, Ordering::Relaxed);
    let out = work();
    ENABLED.store(before, Ordering::Relaxed);
    out
}

/// Recorded work. Its tensors keep their places in memory: what goes in is copied into the tensors
/// that the work read, what comes out lies in those that it gave.
pub struct Graph {
    shim: &'static Shim,
    handle: *mut c_void,
}

impl Graph {
    /// Runs `work` some times, then records it. None where nothing can be recorded (the CPU): the
    /// caller goes on as before.
    ///
    /// `work` must do the same each time, without asking the device for a value, and leave its
    /// inputs such that running it again does no harm.
    pub fn record<T>(device: Device, mut work: impl FnMut() -> Result<T>) -> Result<Option<(Self, T)>> {
        let (Device::Cuda(index), Some(shim)) = (device, shim()) else { return Ok(None) };
        // SAFETY: a new graph, owned by what is returned; null is checked.
        let handle = unsafe { (shim.graph_new)(index as i8) };
        if handle.is_null() {
            bail!("no CUDA graph: {}", shim.error());
        }
        let graph = Self { shim, handle };
        graph.ask(shim.graph_enter)?;
        let recorded = (|| {
            for _ in 0..WARM_UPS {
                work()?;
            }
            graph.ask(shim.graph_begin)?;
            // Whatever comes of the work, the recording must end.
            let out = catch_unwind(AssertUnwindSafe(&mut work));
            let ended = graph.ask(shim.graph_end);
            let out = out.unwrap_or_else(|panic| resume_unwind(panic))?;
            ended.map(|()| out)
        })();
        graph.ask(shim.graph_leave)?;
        Ok(Some((graph, recorded?)))
    }

    /// Does the recorded work again, after all that was asked for before.
    pub fn replay(&self) -> Result<()> {
        self.ask(self.shim.graph_replay)
    }

    fn ask(&self, function: unsafe extern "C" fn(*mut c_void) -> bool) -> Result<()> {
        // SAFETY: the handle lives as long as `self`.
        if !unsafe { function(self.handle) } {
            bail!("CUDA graph: {}", self.shim.error());
        }
        Ok(())
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: freed once; nobody else has the handle.
        unsafe { (self.shim.graph_free)(self.handle) };
    }
}
