//! A GPU's driver, woken while other things are loaded.

use std::ffi::{CStr, CString, c_int, c_uint, c_void};

use super::cuda::DRIVER;
use super::threads::Background;

/// Lets the driver set up its context on a GPU in the background: a third of a second that would
/// otherwise come after [`load_cuda`] and can pass meanwhile. libtorch takes over the same context. What
/// fails here is told when libtorch asks for the same.
pub(super) fn wake_gpu(index: c_int) -> Option<Background> {
    // Looked up before [`load_cuda`] holds the loader's lock.
    let [init, get, retain] = [c"cuInit", c"cuDeviceGet", c"cuDevicePrimaryCtxRetain"].map(driver_function);
    let (init, get, retain) = (init?, get?, retain?);
    // SAFETY: the types are those of the driver's header.
    let (init, get, retain) = unsafe {
        (
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_uint) -> c_int>(init),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(get),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int>(retain),
        )
    };
    Some(Background::start(move || {
        let (mut device, mut context) = (0, std::ptr::null_mut());
        // SAFETY: both are written, not kept. The context is never given back.
        unsafe {
            if init(0) == 0 && get(&mut device, index) == 0 {
                retain(&mut context, device);
            }
        }
    }))
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
