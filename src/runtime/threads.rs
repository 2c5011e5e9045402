//! How threads start, and how those that have nothing to do wait.

use std::ffi::{c_int, c_void};
use std::thread::{Builder, JoinHandle};

use super::cuda_shim::{device_in_use, enter_device};

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
pub(super) const STACK: usize = 8 << 20;

/// Work in a thread of its own, which is waited for when this goes: a process that ended while a thread
/// of it still used a GPU could crash on its way. Its current GPU is that of the thread that starts it.
#[derive(Debug)]
pub struct Background<T = ()>(Option<JoinHandle<T>>);

impl<T: Send + 'static> Background<T> {
    pub fn start(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let device = device_in_use();
        let work = move || {
            // What cannot be done here fails, and is told, where the GPU is asked for work.
            let _ = device.map(enter_device);
            work()
        };
        // What is not started is found missing elsewhere.
        Self(Builder::new().name("background".to_string()).stack_size(STACK).spawn(work).ok())
    }

    /// What it made, waited for. None where no thread could be started, and after a panic, which has been reported.
    pub fn end(mut self) -> Option<T> {
        self.0.take()?.join().ok()
    }
}

impl<T> Drop for Background<T> {
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
