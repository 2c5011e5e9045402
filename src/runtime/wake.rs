//! A GPU's driver, woken while other things are loaded.

use std::ffi::{CStr, CString, c_int, c_uint, c_void};

use super::cuda::DRIVER;
use super::threads::Background;

/// What of the driver makes contexts.
#[derive(Clone, Copy)]
pub(super) struct Driver {
    init: unsafe extern "C" fn(c_uint) -> c_int,
    get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int,
}

impl Driver {
    /// None where there is no driver.
    pub fn find() -> Option<Self> {
        let [init, get, retain] = [c"cuInit", c"cuDeviceGet", c"cuDevicePrimaryCtxRetain"].map(driver_function);
        let (init, get, retain) = (init?, get?, retain?);
        // SAFETY: the types of the fields are those of the driver's header.
        unsafe {
            Some(Self {
                init: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_uint) -> c_int>(init),
                get: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(get),
                retain: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int>(
                    retain,
                ),
            })
        }
    }

    /// Sets up the context on a GPU that libtorch takes over; at once where that is done.
    pub fn wake(self, index: c_int) {
        let (mut device, mut context) = (0, std::ptr::null_mut());
        // SAFETY: both are written, not kept. The context is never given back.
        unsafe {
            if (self.init)(0) == 0 && (self.get)(&mut device, index) == 0 {
                (self.retain)(&mut context, device);
            }
        }
    }
}

/// Lets the driver set up its context on a GPU in the background: a third of a second that would
/// otherwise come after [`load_cuda`] and can pass meanwhile. What fails here is told when libtorch asks for the same.
///
/// [`load_cuda`]: super::load_cuda
pub(super) fn wake_gpu(index: c_int) -> Option<Background> {
    // Looked up before `load_cuda` holds the loader's lock.
    let driver = Driver::find()?;
    Some(Background::start(move || driver.wake(index)))
}

pub(super) fn driver_function(name: &CStr) -> Option<*mut c_void> {
    function_of(&CString::new(DRIVER).ok()?, name)
}

/// A function of a shared library, which stays loaded.
pub(super) fn function_of(library: &CStr, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: both names are C strings; the library is never closed.
    let function = unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL);
        if handle.is_null() { handle } else { libc::dlsym(handle, name.as_ptr()) }
    };
    (!function.is_null()).then_some(function)
}
