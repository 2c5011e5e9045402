//! CUDA loaded at run time: one program for machines with and without a GPU.
//!
//! The program links libtorch's CPU part only. Where an NVIDIA driver is found, `libtorch_cuda.so`
//! is loaded from beside the `libtorch_cpu.so` that the process really uses; loading it registers
//! CUDA with libtorch. It takes about a second, so only what needs tensors asks for it.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub(super) const DRIVER: &str = "libcuda.so.1";
const LIBRARY: &str = "libtorch_cuda.so";

/// How loading CUDA went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cuda {
    /// Loaded from this file.
    Loaded(PathBuf),
    /// There is no NVIDIA driver: the usual machine without a GPU.
    NoDriver(String),
    /// There is a driver, but this libtorch was built without CUDA: the file that is not there.
    NoLibrary(PathBuf),
    /// The library is there and cannot be loaded; the text names what is missing.
    Failed(String),
}

impl fmt::Display for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cuda::Loaded(path) => write!(f, "loaded from {}", path.display()),
            Cuda::NoDriver(_) => write!(f, "no NVIDIA driver on this machine"),
            Cuda::NoLibrary(path) => write!(f, "this libtorch was built without CUDA (no {})", path.display()),
            Cuda::Failed(reason) => write!(f, "cannot be loaded: {reason}"),
        }
    }
}

/// Loads CUDA into libtorch, once in the life of the process; later calls only tell how it went.
/// Must come before the first question to libtorch about devices, which it answers once for all.
pub fn load_cuda() -> &'static Cuda {
    static CUDA: OnceLock<Cuda> = OnceLock::new();
    CUDA.get_or_init(|| {
        let outcome = load();
        tracing::debug!("CUDA: {outcome}");
        outcome
    })
}

fn load() -> Cuda {
    // The driver stays loaded: libtorch_cuda needs it anyway.
    if let Err(reason) = open(OsStr::new(DRIVER), libc::RTLD_LAZY | libc::RTLD_LOCAL) {
        return Cuda::NoDriver(reason);
    }
    let Some(folder) = libtorch_folder() else {
        return Cuda::Failed("libtorch_cpu.so is not in this process".to_string());
    };
    let library = folder.join(LIBRARY);
    if !library.exists() {
        return Cuda::NoLibrary(library);
    }
    match open(library.as_os_str(), libc::RTLD_NOW | libc::RTLD_GLOBAL) {
        Ok(()) => Cuda::Loaded(library),
        Err(reason) => Cuda::Failed(reason),
    }
}

/// Whether [`load_cuda`] will find what it needs. Takes no time.
pub(super) fn cuda_is_likely() -> bool {
    open(OsStr::new(DRIVER), libc::RTLD_LAZY | libc::RTLD_LOCAL).is_ok()
        && libtorch_folder().is_some_and(|folder| folder.join(LIBRARY).exists())
}

/// Loads a shared library for good; the error is the loader's own text.
pub(super) fn open(name: &OsStr, flags: c_int) -> Result<(), String> {
    let name = CString::new(name.as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: the name is a C string; the handle is never closed, so nothing dangles. dlerror's text
    // is copied before any other call to the loader.
    unsafe {
        if !libc::dlopen(name.as_ptr(), flags).is_null() {
            return Ok(());
        }
        let error = libc::dlerror();
        Err(if error.is_null() { "unknown".into() } else { CStr::from_ptr(error).to_string_lossy().into_owned() })
    }
}

/// The folder of the `libtorch_cpu.so` that this process uses, wherever the loader found it.
pub fn libtorch_folder() -> Option<PathBuf> {
    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
        // SAFETY: the loader passes a valid description, and `found` is the pointer given below.
        unsafe {
            let name: *const c_char = (*info).dlpi_name;
            if name.is_null() {
                return 0;
            }
            let path = Path::new(OsStr::from_bytes(CStr::from_ptr(name).to_bytes()));
            if path.file_name() != Some(OsStr::new("libtorch_cpu.so")) {
                return 0;
            }
            *found.cast::<Option<PathBuf>>() = path.parent().map(Path::to_path_buf);
            1
        }
    }
    let mut found: Option<PathBuf> = None;
    // SAFETY: `visit` only writes to `found`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// The version that stands beside the libtorch in use, e.g. `2.11.0+cu130`.
pub fn libtorch_version_in_use() -> Option<String> {
    let folder = libtorch_folder()?.parent()?.to_path_buf();
    if let Ok(text) = std::fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_string());
    }
    let text = std::fs::read_to_string(folder.join("version.py")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(line.trim_matches(['\'', '"', ' ']).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libtorch_in_use_is_found() {
        tch::set_num_threads(1); // so that the test binary links libtorch
        let folder = libtorch_folder().unwrap();
        assert!(folder.join("libtorch_cpu.so").is_file());
        assert!(libtorch_version_in_use().unwrap().starts_with("2.11.0"), "{:?}", libtorch_version_in_use());
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = open(OsStr::new("libtoolkit-nowhere.so.1"), libc::RTLD_LAZY).unwrap_err();
        assert!(error.contains("libtoolkit-nowhere.so.1"), "{error}");
    }

    #[test]
    fn cuda_and_libtorch_agree() {
        let loaded = matches!(load_cuda(), Cuda::Loaded(_));
        assert!(loaded || tch::Cuda::device_count() == 0);
    }
}
