//! Ctrl-C: stop at once, and say how to go on.

use std::sync::OnceLock;

static MESSAGE: OnceLock<String> = OnceLock::new();

/// From now on Ctrl-C (and a request to end) stops the process with this message and the usual exit
/// status (130, 143). That is safe at any moment: nothing in a run folder is ever half-written.
pub fn say_on_stop(message: String) {
    if MESSAGE.set(message).is_err() {
        return;
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(libc::c_int) = stop;
        // SAFETY: the handler calls only what is allowed in one.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
}

extern "C" fn stop(signal: libc::c_int) {
    if let Some(message) = MESSAGE.get() {
        // SAFETY: write and _exit may be called in a signal handler; the text is never changed.
        unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    }
    // SAFETY: as above. Destructors are left out on purpose: other threads are still at work.
    unsafe { libc::_exit(128 + signal) }
}
