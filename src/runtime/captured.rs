//! Work on the GPU that is captured once and then replayed as a whole (CUDA graphs): the host no longer starts
//! hundreds of kernels one by one. The one place that knows when work is captured, and what happens where it cannot be.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use tch::{Device, Tensor};

use super::cuda_shim::{Shim, shim};
use super::kernel::{is_eager, is_eager_by_choice};
use super::{catch_panics, one_line};

/// How often a [`CapturedFunction`] runs eagerly before it is captured: capturing takes as long as doing it three
/// times, which does not pay for the two texts of a single picture.
const EAGER_CALLS: usize = 2;

static ENABLED: AtomicBool = AtomicBool::new(true);

/// Does `work` with nothing captured and nothing replayed, so that both ways can be compared.
pub fn without_capture<T>(work: impl FnOnce() -> T) -> T {
    let before = ENABLED.swap(false, Ordering::Relaxed);
    let out = work();
    ENABLED.store(before, Ordering::Relaxed);
    out
}

/// Whether work is captured where it can be: neither eagerly nor within [`without_capture`].
pub fn captures_are_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed) && !is_eager_by_choice()
}

/// Whether work on this device is captured: on a GPU that does not compute eagerly.
pub fn may_capture(device: Device) -> bool {
    captures_are_enabled() && matches!(device, Device::Cuda(index) if !is_eager(index))
}

/// Captured work and what it gives, or the reason why there is none yet. Its tensors keep their places in memory:
/// what goes in is copied into the tensors that the work read, what comes out lies in those that it gave.
pub struct Captured<T> {
    state: State<T>,
}

enum State<T> {
    NotYet,
    Done(CapturedGraph, T),
    /// Capturing failed once, and is not tried again.
    GivenUp,
}

impl<T> Default for Captured<T> {
    fn default() -> Self {
        Self { state: State::NotYet }
    }
}

impl<T> Captured<T> {
    /// Captures `work` (see [`CapturedGraph::capture`]). Where that fails there is a warning that names it as `what`,
    /// and the work goes on eagerly.
    pub fn of(what: &str, device: Device, work: impl FnMut() -> Result<T>) -> Self {
        Self::new(what, catch_panics(|| CapturedGraph::capture(device, work)))
    }

    /// The same, and what the work gave when it was done before it was captured: that is as good as what a replay gives,
    /// and stays valid.
    pub fn of_what_is_wanted_now(what: &str, device: Device, work: impl FnMut() -> Result<T>) -> (Self, Option<T>) {
        match catch_panics(|| CapturedGraph::capture_keeping(device, work, Some)) {
            Ok(Some((graph, first, out))) => (Self::new(what, Ok(Some((graph, out)))), first),
            failed => (Self::new(what, failed.map(|_| None)), None),
        }
    }

    fn new(what: &str, captured: Result<Option<(CapturedGraph, T)>>) -> Self {
        let state = match captured {
            Ok(Some((graph, out))) => State::Done(graph, out),
            Ok(None) => State::GivenUp,
            Err(error) => {
                tracing::warn!("{what} is not captured but runs eagerly: {}", one_line(&error));
                State::GivenUp
            }
        };
        Self { state }
    }

    /// Whether the work should be captured now: it may be, and was not, and has not failed.
    pub fn is_wanted(&self, device: Device) -> bool {
        matches!(self.state, State::NotYet) && may_capture(device)
    }

    /// Whether there is something to replay.
    pub fn is_there(&self) -> bool {
        matches!(self.state, State::Done(..))
    }

    /// Replays the work behind all that was asked for before; what it gives is valid until the next time. None where
    /// there is nothing to replay, or nothing is replayed now: the caller does the work eagerly.
    pub fn replay(&self) -> Result<Option<&T>> {
        match &self.state {
            State::Done(graph, out) if may_capture(Device::Cuda(graph.device)) => graph.replay().map(|()| Some(out)),
            _ => Ok(None),
        }
    }
}

impl<T> fmt::Debug for Captured<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::NotYet => "not captured",
            State::Done(..) => "captured",
            State::GivenUp => "not to be captured",
        })
    }
}

/// A function of tensors that is called again and again with inputs of one size, such as a text encoder: captured once
/// it has been called some times.
#[derive(Default)]
pub struct CapturedFunction {
    calls: Cell<usize>,
    /// Where the captured work finds its inputs, and its outputs.
    captured: RefCell<(Vec<Tensor>, Captured<Vec<Tensor>>)>,
}

impl CapturedFunction {
    /// What `work` makes of the inputs. It must be the same work each time, and not ask the device for a value.
    pub fn call(&self, inputs: &[Tensor], work: impl Fn(&[Tensor]) -> Vec<Tensor>) -> Result<Vec<Tensor>> {
        let Some(device) = inputs.first().map(Tensor::device) else { return Ok(work(inputs)) };
        let mut place = self.captured.borrow_mut();
        let (own, captured) = &mut *place;
        if self.calls.get() >= EAGER_CALLS && captured.is_wanted(device) {
            *own = inputs.iter().map(Tensor::copy).collect();
            *captured = Captured::of("a repeated call", device, || Ok(work(own)));
        }
        self.calls.set(self.calls.get() + 1);
        if captured.is_there() && own.len() == inputs.len() && own.iter().zip(inputs).all(|(a, b)| a.size() == b.size())
        {
            for (own, new) in own.iter_mut().zip(inputs) {
                own.copy_(new);
            }
            if let Some(outputs) = captured.replay()? {
                // Copies, for the next time they are written to the same place.
                return Ok(outputs.iter().map(Tensor::copy).collect());
            }
        }
        Ok(work(inputs))
    }
}

impl fmt::Debug for CapturedFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapturedFunction").field("calls", &self.calls.get()).finish_non_exhaustive()
    }
}

/// A CUDA graph.
pub struct CapturedGraph {
    shim: &'static Shim,
    device: usize,
    handle: *mut c_void,
}

impl CapturedGraph {
    /// Runs `work` once, so that libraries choose their kernels and take their memory, then captures it. None where nothing
    /// can be captured (the CPU): the caller goes on as before.
    ///
    /// `work` must do the same each time, without asking the device for a value, and leave its
    /// inputs such that running it again does no harm.
    pub fn capture<T>(device: Device, work: impl FnMut() -> Result<T>) -> Result<Option<(Self, T)>> {
        // What it gives may be large.
        Ok(Self::capture_keeping(device, work, drop)?.map(|(graph, (), out)| (graph, out)))
    }

    /// The same with what `keep` makes of what the work gives at first.
    fn capture_keeping<T, K>(
        device: Device,
        mut work: impl FnMut() -> Result<T>,
        keep: impl FnOnce(T) -> K,
    ) -> Result<Option<(Self, K, T)>> {
        let (Device::Cuda(index), Some(shim)) = (device, shim()) else { return Ok(None) };
        // SAFETY: a new graph, owned by what is returned; null is checked.
        let handle = unsafe { (shim.graph_new)(index as i8) };
        if handle.is_null() {
            bail!("no CUDA graph: {}", shim.error());
        }
        let graph = Self { shim, device: index, handle };
        graph.ask(shim.graph_enter)?;
        let captured = (|| {
            let first = keep(work()?);
            graph.ask(shim.graph_begin)?;
            // Whatever comes of the work, the capture must end.
            let out = catch_unwind(AssertUnwindSafe(&mut work));
            let ended = graph.ask(shim.graph_end);
            let out = out.unwrap_or_else(|panic| resume_unwind(panic))?;
            ended.map(|()| (first, out))
        })();
        graph.ask(shim.graph_leave)?;
        captured.map(|(first, out)| Some((graph, first, out)))
    }

    /// Does the captured work again, after all that was asked for before.
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

impl Drop for CapturedGraph {
    fn drop(&mut self) {
        // SAFETY: freed once; nobody else has the handle.
        unsafe { (self.shim.graph_free)(self.handle) };
    }
}
