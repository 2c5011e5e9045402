//! How threads wait for one another.

use std::env;
use std::ffi::{c_int, c_void};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::JoinHandle;

use super::cuda_shim::enter_device_in_use;

/// Lets threads that wait sleep instead of spin, by starting the program again in its place with
/// `OMP_WAIT_POLICY=passive` (the OpenMP library reads it before `main`). A spinning thread keeps the
/// core from whoever has work: pictures that are decoded and encoded meanwhile, other programs. On a
/// busy machine with two cores a small model is ten times slower with it. Does nothing where the
/// user has chosen.
pub fn wait_asleep() {
    if ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"].iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let error = again.args(arguments).env("OMP_WAIT_POLICY", "passive").exec();
    tracing::debug!("threads go on spinning: {error}");
}

/// For a thread of a pool: libtorch computes on it alone, where each such thread would otherwise start as many of its own
/// again, and its current GPU is that of the process.
pub fn enter_pool_thread() {
    enter_device_in_use();
    // Or libtorch would set the number when the thread first asks for it.
    tch::get_num_threads();
    // SAFETY: the name ends in zero.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"omp_set_num_threads".as_ptr()) };
    if !found.is_null() {
        // SAFETY: this is OpenMP's `void omp_set_num_threads(int)`, which holds for the calling thread.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(c_int)>(found)(1) };
    }
}

/// Work in a thread of its own, which is waited for when this goes: a process that ended while a thread
/// of it still used a GPU could crash on its way. Its current GPU is that of the process.
pub struct Background(Option<JoinHandle<()>>);

impl Background {
    pub fn start(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(std::thread::spawn(|| {
            enter_device_in_use();
            work();
        })))
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
