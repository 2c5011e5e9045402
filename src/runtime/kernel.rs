//! Own kernels for the GPU, compiled when they are first needed by the compiler that comes with
//! libtorch (NVRTC), for the very device at hand, and kept on disk for the next process.

use std::ffi::{CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, anyhow, bail};
use tch::Tensor;

use super::cuda_shim::{Shim, Take, shim};
use super::kernel_cache::{KernelCache, Key};

static EAGER: AtomicBool = AtomicBool::new(false);
/// A bit for each device on which a kernel could not be started.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Whether all devices compute by libtorch's operators alone, one after another: no custom kernels, no CUDA graphs.
pub fn set_eager(on: bool) {
    EAGER.store(on, Ordering::Relaxed);
}

/// Does `work` eagerly, so that both ways can be compared.
pub fn eager<T>(work: impl FnOnce() -> T) -> T {
    let before = EAGER.swap(true, Ordering::Relaxed);
    let out = work();
    EAGER.store(before, Ordering::Relaxed);
    out
}

/// Whether all devices compute eagerly (see [`set_eager`]).
pub fn is_eager_by_choice() -> bool {
    EAGER.load(Ordering::Relaxed)
}

/// Whether a GPU computes eagerly: by choice, or because a kernel could not be started there.
pub fn is_eager(device: usize) -> bool {
    is_eager_by_choice() || FAILED.load(Ordering::Relaxed) & bit(device) != 0
}

/// From now on this GPU computes eagerly; others go on as before.
pub fn give_up_on(device: usize) {
    FAILED.fetch_or(bit(device), Ordering::Relaxed);
}

fn bit(device: usize) -> u64 {
    1 << (device % 64)
}

/// Kernels of one source, loaded for good.
pub struct Kernels {
    shim: &'static Shim,
    device: i8,
    module: *mut c_void,
}

// SAFETY: a loaded module may be used from every thread; the driver locks where it must.
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Sync for Kernels {}

/// One kernel. It lives as long as the process, like the module that it belongs to.
#[derive(Clone, Copy)]
pub struct Kernel {
    shim: &'static Shim,
    function: *mut c_void,
}

// SAFETY: as of `Kernels`.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernels {
    /// The kernels of `source` for a device: those that an earlier process compiled, or else compiled now. `options` are the
    /// compiler's. None where there is no CUDA.
    pub fn compile(device: usize, name: &str, source: &str, options: &[String]) -> Result<Option<Self>> {
        let Some(shim) = shim() else { return Ok(None) };
        let compiler = Compiler { shim, device: device as i8, name: CString::new(name)? };
        let made_by = compiler.identity()?;
        let key = Key::of([made_by.as_str(), source].into_iter().chain(options.iter().map(String::as_str)));
        let load = |binary: &[u8]| compiler.load(binary);
        KernelCache::of_user().load(name, &key, load, || compiler.compile(source, options)).map(Some)
    }

    /// The kernel of this name (`extern "C"` in the source). With `shared_bytes` a block of it may
    /// take so much dynamic shared memory, and what a multiprocessor has goes there rather than to its
    /// cache.
    pub fn get(&self, name: &str, shared_bytes: Option<i64>) -> Result<Kernel> {
        let name = CString::new(name)?;
        let shared_bytes = shared_bytes.map_or(-1, |bytes| bytes as i32);
        // SAFETY: module and text live through the call.
        let function = unsafe { (self.shim.module_function)(self.device, self.module, name.as_ptr(), shared_bytes) };
        if function.is_null() {
            bail!("{}: {}", name.to_string_lossy(), self.shim.error());
        }
        Ok(Kernel { shim: self.shim, function })
    }
}

/// The way from a source to kernels on a device.
struct Compiler {
    shim: &'static Shim,
    device: i8,
    /// In the compiler's messages.
    name: CString,
}

impl Compiler {
    /// What, beside source and options, decides what comes out.
    fn identity(&self) -> Result<String> {
        // SAFETY: `take` belongs to the pointer that is handed on with it.
        let text = self.taken(|take, to| unsafe { (self.shim.compiler)(self.device, take, to) })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn compile(&self, source: &str, options: &[String]) -> Result<Vec<u8>> {
        let source = CString::new(source)?;
        let options: Vec<CString> =
            options.iter().map(|option| CString::new(option.as_str())).collect::<Result<_, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        self.taken(|take, to| {
            let (name, count) = (self.name.as_ptr(), pointers.len() as i32);
            // SAFETY: all texts live through the call, as many options as said; `take` as above.
            unsafe { (self.shim.compile)(self.device, source.as_ptr(), name, pointers.as_ptr(), count, take, to) }
        })
    }

    fn load(&self, binary: &[u8]) -> Result<Kernels> {
        // SAFETY: the bytes are whole, which the compiler or their sum says, and tell their length by themselves.
        let module = unsafe { (self.shim.module_new)(self.device, self.name.as_ptr(), binary.as_ptr().cast()) };
        if module.is_null() {
            return Err(self.error());
        }
        Ok(Kernels { shim: self.shim, device: self.device, module })
    }

    /// The bytes that a call of the shim hands over.
    fn taken(&self, call: impl FnOnce(Take, *mut c_void) -> bool) -> Result<Vec<u8>> {
        unsafe extern "C" fn take(to: *mut c_void, bytes: *const c_char, count: usize) {
            // SAFETY: `to` is the list below, and the bytes live through this call.
            unsafe { (*to.cast::<Vec<u8>>()).extend_from_slice(std::slice::from_raw_parts(bytes.cast(), count)) }
        }
        let mut bytes: Vec<u8> = Vec::new();
        if call(take, (&raw mut bytes).cast()) { Ok(bytes) } else { Err(self.error()) }
    }

    fn error(&self) -> anyhow::Error {
        anyhow!("{}: {}", self.name.to_string_lossy(), self.shim.error())
    }
}

/// What a kernel is given, in the order of its parameters and of exactly their types.
pub enum Argument<'a> {
    /// A pointer to the numbers; None is a null pointer.
    Tensor(Option<&'a Tensor>),
    Int(i32),
    Long(i64),
    Float(f32),
}

impl Kernel {
    /// Starts the kernel on the current stream of the device; with `early`, where the device can do
    /// that, as soon as all blocks of the kernel before it allow for it (or have ended).
    ///
    /// # Safety
    /// The arguments must be those that the kernel's source names, with tensors on this device that
    /// are contiguous and as large as the kernel reads and writes. One that starts early must wait for
    /// the one before it by itself.
    pub unsafe fn launch(
        self,
        device: usize,
        grid: [i64; 3],
        block: i64,
        shared_bytes: i64,
        early: bool,
        arguments: &[Argument],
    ) -> Result<()> {
        // Each place holds a value of at most eight bytes, little end first.
        let mut values: Vec<u64> = arguments.iter().map(Argument::bits).collect();
        let mut places: Vec<*mut c_void> = values.iter_mut().map(|value| (value as *mut u64).cast()).collect();
        let grid = grid.map(|size| size as u32);
        let block = [block as u32, 1, 1];
        // SAFETY: as the caller promises; the values live through the call, which copies them.
        let started = unsafe {
            let (grid, block, shared) = (grid.as_ptr(), block.as_ptr(), shared_bytes as u32);
            (self.shim.launch)(self.function, device as i8, grid, block, shared, early, places.as_mut_ptr())
        };
        if !started {
            bail!("{}", self.shim.error());
        }
        Ok(())
    }
}

impl Argument<'_> {
    fn bits(&self) -> u64 {
        match self {
            Self::Tensor(None) => 0,
            Self::Tensor(Some(tensor)) => tensor.data_ptr() as u64,
            Self::Int(value) => *value as u32 as u64,
            Self::Long(value) => *value as u64,
            Self::Float(value) => value.to_bits() as u64,
        }
    }
}
