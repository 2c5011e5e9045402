//! Loads the CUDA part of the shim, which the program carries in itself: recorded work, custom kernels and
//! copies from pinned memory. Where there is no CUDA, or the program was built without its headers, there
//! is none.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};

use super::cuda::{Cuda, libtorch_folder, load_cuda, open};

/// The library that `build.rs` made; empty where it could not.
static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/toolkit_cuda.so"));

/// Takes bytes over from a call, while it lasts: what it was given with, the bytes, their number.
pub(super) type Take = unsafe extern "C" fn(*mut c_void, *const c_char, usize);

/// The functions of `cuda_shim.cpp`. Those that give `bool` or a pointer say with false or null that
/// they failed; `error` then tells why.
pub(super) struct Shim {
    error: unsafe extern "C" fn() -> *const c_char,
    pub use_device: unsafe extern "C" fn(i8) -> bool,
    pub profile: unsafe extern "C" fn(bool) -> bool,
    pub graph_new: unsafe extern "C" fn(i8) -> *mut c_void,
    pub graph_enter: unsafe extern "C" fn(*mut c_void) -> bool,
    pub graph_leave: unsafe extern "C" fn(*mut c_void) -> bool,
    pub graph_begin: unsafe extern "C" fn(*mut c_void) -> bool,
    pub graph_end: unsafe extern "C" fn(*mut c_void) -> bool,
    pub graph_replay: unsafe extern "C" fn(*mut c_void) -> bool,
    pub graph_free: unsafe extern "C" fn(*mut c_void),
    pub compiler: unsafe extern "C" fn(i8, Take, *mut c_void) -> bool,
    pub compile:
        unsafe extern "C" fn(i8, *const c_char, *const c_char, *const *const c_char, c_int, Take, *mut c_void) -> bool,
    pub module_new: unsafe extern "C" fn(i8, *const c_char, *const c_void) -> *mut c_void,
    pub module_function: unsafe extern "C" fn(i8, *mut c_void, *const c_char, i32) -> *mut c_void,
    pub pinned_new: unsafe extern "C" fn(i8, usize) -> *mut c_void,
    pub pinned_free: unsafe extern "C" fn(*mut c_void),
    pub upload: unsafe extern "C" fn(i8, *mut c_void, *const c_void, usize) -> bool,
    pub hold: unsafe extern "C" fn(i8, *const c_void) -> bool,
    pub event_new: unsafe extern "C" fn(i8) -> *mut c_void,
    pub event_wait: unsafe extern "C" fn(*mut c_void) -> bool,
    pub event_free: unsafe extern "C" fn(*mut c_void),
    pub launch: unsafe extern "C" fn(*mut c_void, i8, *const u32, *const u32, u32, bool, *mut *mut c_void) -> bool,
}

impl Shim {
    /// Why the last call of this thread failed.
    pub fn error(&self) -> String {
        // SAFETY: the text belongs to this thread and is copied at once.
        unsafe { CStr::from_ptr((self.error)()) }.to_string_lossy().trim().to_string()
    }
}

/// The loaded shim; None on machines without CUDA. A failure is logged once.
pub(super) fn shim() -> Option<&'static Shim> {
    static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
    let load = || {
        if !matches!(load_cuda(), Cuda::Loaded(_)) {
            return None;
        }
        if LIBRARY.is_empty() {
            tracing::warn!(
                "work on the GPU is not recorded or fused, for the program was built without CUDA's headers: name \
                 CUDA's folder in CUDA_HOME, or `pip install nvidia-cuda-runtime` beside torch, and build again"
            );
            return None;
        }
        load().inspect_err(|error| tracing::warn!("work on the GPU is not recorded or fused: {error:#}")).ok()
    };
    SHIM.get_or_init(load).as_ref()
}

/// The GPU of this process, once it is chosen: the last one that was.
static IN_USE: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    /// The GPU of this thread, where it has chosen one.
    static OF_THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes a GPU the current one of this thread and of those that it starts: what asks libtorch for no device in
/// particular then takes this one, and no context is made on another GPU. Does nothing without CUDA.
pub(super) fn use_device(index: usize) -> Result<()> {
    IN_USE.store(index, Ordering::Relaxed);
    enter_device(index)
}

/// The GPU that was made the current one of this thread, or else of the process.
pub(super) fn device_in_use() -> Option<usize> {
    OF_THREAD.get().or_else(|| Some(IN_USE.load(Ordering::Relaxed)).filter(|index| *index != usize::MAX))
}

/// The GPU that this thread has chosen. A signal handler may ask.
pub(super) fn device_of_thread() -> Option<usize> {
    OF_THREAD.get()
}

/// Makes a GPU the current one of this thread.
pub(super) fn enter_device(index: usize) -> Result<()> {
    OF_THREAD.set(Some(index));
    let Some(shim) = shim() else { return Ok(()) };
    // SAFETY: no memory is passed.
    if !unsafe { (shim.use_device)(index as i8) } {
        bail!("cuda:{index} cannot be used: {}", shim.error());
    }
    Ok(())
}

#[expect(clippy::missing_transmute_annotations, reason = "the fields of `Shim` say the types")]
fn load() -> Result<Shim> {
    // The run-time compiler and the driver come into the process with this one.
    if let Some(folder) = libtorch_folder() {
        let compiler = folder.join("libcaffe2_nvrtc.so");
        open(compiler.as_os_str(), libc::RTLD_NOW | libc::RTLD_GLOBAL).map_err(anyhow::Error::msg)?;
    }
    let file = in_memory(LIBRARY).context("no file in memory")?;
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    // SAFETY: the library is this project's own; it stays loaded, so its functions stay valid.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        // SAFETY: after a failure there is a text, copied at once.
        bail!("{}", unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy());
    }
    macro_rules! function {
        ($name:literal) => {{
            // SAFETY: the type of the field is that of the function of this name.
            let found = unsafe { libc::dlsym(handle, concat!($name, "\0").as_ptr().cast()) };
            if found.is_null() {
                bail!(concat!("no function ", $name));
            }
            // SAFETY: as above.
            unsafe { std::mem::transmute(found) }
        }};
    }
    Ok(Shim {
        error: function!("toolkit_cuda_error"),
        use_device: function!("toolkit_use_device"),
        profile: function!("toolkit_profile"),
        graph_new: function!("toolkit_graph_new"),
        graph_enter: function!("toolkit_graph_enter"),
        graph_leave: function!("toolkit_graph_leave"),
        graph_begin: function!("toolkit_graph_begin"),
        graph_end: function!("toolkit_graph_end"),
        graph_replay: function!("toolkit_graph_replay"),
        graph_free: function!("toolkit_graph_free"),
        compiler: function!("toolkit_compiler"),
        compile: function!("toolkit_compile"),
        module_new: function!("toolkit_module_new"),
        module_function: function!("toolkit_module_function"),
        pinned_new: function!("toolkit_pinned_new"),
        pinned_free: function!("toolkit_pinned_free"),
        upload: function!("toolkit_upload"),
        hold: function!("toolkit_hold"),
        event_new: function!("toolkit_event_new"),
        event_wait: function!("toolkit_event_wait"),
        event_free: function!("toolkit_event_free"),
        launch: function!("toolkit_launch"),
    })
}

/// A file that is nowhere but in memory, with these bytes.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    // SAFETY: the name is a C string; the descriptor is new and belongs to nobody else.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"toolkit_cuda.so".as_ptr(), libc::MFD_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(descriptor)
    };
    file.write_all(bytes)?;
    Ok(file)
}
