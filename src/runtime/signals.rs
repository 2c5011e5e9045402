//! Signals: what ends the program, with which status, and what it says then.

use std::sync::OnceLock;

static MESSAGE: OnceLock<String> = OnceLock::new();

/// At the very start: a reader of the output that has gone (`toolkit … | head`) ends the program quietly, as it
/// ends other programs (Rust's own way is a panic in the middle of printing); a file that grows over the limit
/// (`ulimit -f`) is an error of the write that names the file, not a silent end.
pub fn conventional_signals() {
    // SAFETY: no handler is installed, only defaults are set; the one thread there may be is of the driver, which sets none.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// From now on Ctrl-C, a request to end and the end of the session stop the process with this message and the usual
/// exit status (130, 143, 129). That is safe at any moment: nothing in a run folder is ever half-written. A session's
/// end that is ignored already (`nohup`) stays so.
pub fn say_on_stop(message: String) {
    if MESSAGE.set(message).is_err() {
        return;
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        if signal == libc::SIGHUP && is_ignored(signal) {
            continue;
        }
        let handler: extern "C" fn(libc::c_int) = stop;
        // SAFETY: the handler calls only what is allowed in one.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
}

/// Ctrl-C and the end of the session, which a terminal tells every process of a command, are left to another process.
pub fn ignore_interrupts() {
    for signal in [libc::SIGINT, libc::SIGHUP] {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Ends the process without a word of good-bye to its libraries: libtorch takes a tenth of a second to put away what the
/// system takes back anyway, and CUDA's may crash where a thread still uses a GPU. All that is to be written must be
/// written. Does nothing where a tool is in the process that writes its report at the end of it.
pub fn end_at_once(status: i32) {
    let reports = ["LD_PRELOAD", "CUDA_INJECTION64_PATH", "LLVM_PROFILE_FILE"];
    if reports.iter().all(|name| std::env::var_os(name).is_none()) {
        // SAFETY: ends the process; nothing of it is to be kept.
        unsafe { libc::_exit(status) }
    }
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: nothing is changed, and all zeros is a valid value of the struct that is filled.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
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
