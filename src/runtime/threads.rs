//! How threads start, and how those that have nothing to do wait.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::thread::{Builder, JoinHandle};

use super::cuda_shim::{device_in_use, enter_device};

/// What the OpenMP library reads before `main`, as the system hands it over.
const ASLEEP: &CStr = c"OMP_WAIT_POLICY=passive";

/// Lets threads that wait sleep instead of spin, by starting the program again in its place with
/// `OMP_WAIT_POLICY=passive`. A spinning thread keeps the core from whoever has work: pictures that are decoded and
/// encoded meanwhile, other programs. On a busy machine with two cores a small model is ten times slower with it. Does
/// nothing where the user has chosen.
///
/// The program has this among its `.preinit_array`: the loader calls it before any library sets itself up, which takes
/// libtorch a quarter of a second, so that the second start costs a few milliseconds.
///
/// # Safety
/// Both lists must be null, or lists of C strings that end in null.
pub unsafe extern "C" fn wait_asleep(_count: c_int, arguments: *const *const c_char, variables: *const *const c_char) {
    if arguments.is_null() || variables.is_null() {
        return;
    }
    // SAFETY: as the caller says, which is the loader. Only system calls and malloc
    // are used, which need nothing that is not set up yet.
    unsafe {
        let mut count = 0;
        while let Some(variable) = variables.add(count).read().as_ref() {
            if [c"OMP_WAIT_POLICY=", c"GOMP_SPINCOUNT="].iter().any(|name| starts_with(variable, name)) {
                return;
            }
            count += 1;
        }
        let more: *mut *const c_char = libc::malloc((count + 2) * size_of::<*const c_char>()).cast();
        if more.is_null() {
            return;
        }
        more.copy_from_nonoverlapping(variables, count);
        more.add(count).write(ASLEEP.as_ptr());
        more.add(count + 1).write(std::ptr::null());
        libc::execve(c"/proc/self/exe".as_ptr(), arguments, more);
        // It goes on with threads that spin.
        libc::free(more.cast());
    }
}

/// # Safety
/// `text` must begin a C string.
unsafe fn starts_with(text: &c_char, start: &CStr) -> bool {
    // SAFETY: no further than both go.
    unsafe { libc::strncmp(text, start.as_ptr(), start.count_bytes()) == 0 }
}

/// For a thread of a pool: libtorch computes on it alone, where each such thread would otherwise start as many of its own
/// again, and its current GPU is that of the process.
pub fn enter_pool_thread() {
    // What cannot be done here fails, and is told, where the GPU is asked for work.
    let _ = device_in_use().map(enter_device);
    // Or libtorch would set the number when the thread first asks for it.
    tch::get_num_threads();
    // SAFETY: the name ends in zero.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"omp_set_num_threads".as_ptr()) };
    if !found.is_null() {
        // SAFETY: this is OpenMP's `void omp_set_num_threads(int)`, which holds for the calling thread.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(c_int)>(found)(1) };
    }
}

/// Room for what libraries of a GPU do on their thread: as much as the first thread of a program has.
const STACK: usize = 8 << 20;

/// Work in a thread of its own, which is waited for when this goes: a process that ended while a thread
/// of it still used a GPU could crash on its way. Its current GPU is that of the thread that starts it.
#[derive(Debug)]
pub struct Background(Option<JoinHandle<()>>);

impl Background {
    pub fn start(work: impl FnOnce() + Send + 'static) -> Self {
        let device = device_in_use();
        let work = move || {
            // What cannot be done here fails, and is told, where the GPU is asked for work.
            let _ = device.map(enter_device);
            work();
        };
        // What is not started is found missing elsewhere.
        Self(Builder::new().name("background".to_string()).stack_size(STACK).spawn(work).ok())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A panic has been reported by then, and what it left undone is found missing elsewhere.
        let _ = self.0.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_a_pool_computes_alone() {
        let before = tch::get_num_threads();
        let inside = std::thread::spawn(|| {
            enter_pool_thread();
            tch::get_num_threads()
        });
        assert_eq!(inside.join().unwrap(), 1);
        assert_eq!(tch::get_num_threads(), before);
        assert_eq!(std::thread::spawn(tch::get_num_threads).join().unwrap(), before, "later threads are as before");
    }
}
