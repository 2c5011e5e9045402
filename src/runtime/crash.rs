//! What a crash in native code says, where that was asked for: without it a process that a signal ends says nothing.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::cuda_shim::device_of_thread;

/// The variable that asks for it, whatever it is set to.
const CHOICE: &str = "TOOLKIT_CRASH_REPORT";

const SIGNALS: [(c_int, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
];
const MOST_FRAMES: usize = 64;
const MOST_BYTES: usize = 160;

/// What handled the signals before, in their order.
static BEFORE: [OnceLock<libc::sigaction>; SIGNALS.len()] = [const { OnceLock::new() }; SIGNALS.len()];

/// What the process was about last, in plain memory that a signal handler may read: at worst half of it is older.
static STAGE: [AtomicU8; MOST_BYTES] = [const { AtomicU8::new(0) }; MOST_BYTES];
static STAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Notes what the process is about, for the report of a crash.
pub fn note_stage(stage: &str) {
    let bytes = &stage.as_bytes()[..stage.len().min(MOST_BYTES)];
    STAGE_BYTES.store(0, Ordering::Relaxed);
    for (place, byte) in STAGE.iter().zip(bytes) {
        place.store(*byte, Ordering::Relaxed);
    }
    STAGE_BYTES.store(bytes.len(), Ordering::Release);
}

/// From now on a crash in native code says, on standard error, the frames of its stack as `LIBRARY(+OFFSET)` and then, in
/// one line, the signal, the thread, its GPU and what was done last. `is_wanted`, or else the environment variable
/// `TOOLKIT_CRASH_REPORT`, asks for it. The process then ends as it would have ended.
///
/// Not on a stack of its own, which would be too small for unwinding: that of a stack that is full is not told.
pub fn report_crashes(is_wanted: bool) {
    if !is_wanted && std::env::var_os(CHOICE).is_none() {
        return;
    }
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_crash;
    let mut frames = [std::ptr::null_mut(); 1];
    // SAFETY: the actions are whole. The first call of backtrace loads what it needs, so that in a handler it does not.
    unsafe {
        libc::backtrace(frames.as_mut_ptr(), 1);
        for ((signal, _), before) in SIGNALS.iter().zip(&BEFORE) {
            let mut old: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(*signal, std::ptr::null(), &mut old) != 0 || before.set(old).is_err() {
                continue;
            }
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(*signal, &action, std::ptr::null_mut());
        }
    }
}

/// A line that grows without asking for memory.
struct Line {
    bytes: [u8; 512],
    length: usize,
}

impl Line {
    fn add(&mut self, text: &[u8]) {
        for byte in text {
            if self.length < self.bytes.len() {
                self.bytes[self.length] = *byte;
                self.length += 1;
            }
        }
    }

    fn add_number(&mut self, mut number: usize, base: usize) {
        let (mut digits, mut at) = ([0; 64], 64);
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[number % base];
            number /= base;
            if number == 0 {
                break;
            }
        }
        self.add(&digits[at..]);
    }

    fn write(&self) {
        // SAFETY: as many bytes as said.
        unsafe { libc::write(libc::STDERR_FILENO, self.bytes.as_ptr().cast(), self.length) };
    }
}

thread_local! {
    /// Whether this thread is telling of a crash: another one in between ends it at once.
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

extern "C" fn on_crash(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    let at = SIGNALS.iter().position(|(known, _)| *known == signal);
    if !IS_TELLING.replace(true) {
        let mut frames = [std::ptr::null_mut(); MOST_FRAMES];
        // SAFETY: as many places as said; both functions may be called in a handler once backtrace has been loaded.
        unsafe {
            let count = libc::backtrace(frames.as_mut_ptr(), MOST_FRAMES as c_int);
            libc::backtrace_symbols_fd(frames.as_ptr(), count, libc::STDERR_FILENO);
        }
        // SAFETY: the system gives a whole siginfo_t.
        let (is_own, address) = unsafe { ((*info).si_code > 0, (*info).si_addr() as usize) };
        tell(signal, at.map_or("", |at| SIGNALS[at].1), is_own.then_some(address));
    }
    IS_TELLING.set(false);
    // SAFETY: these may be called in a handler; the action is whole.
    unsafe {
        match at.and_then(|at| BEFORE[at].get()) {
            // A fault comes again by itself on return. Rust's own handler takes what a process sends for one, too.
            Some(before) if (*info).si_code > 0 => {
                libc::sigaction(signal, before, std::ptr::null_mut());
            }
            _ => {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
        }
    }
}

/// The one line. Nothing here takes memory or locks.
fn tell(signal: c_int, name: &str, address: Option<usize>) {
    let mut line = Line { bytes: [0; 512], length: 0 };
    line.add(b"crash: signal ");
    line.add_number(signal as usize, 10);
    line.add(b" (");
    line.add(name.as_bytes());
    match address {
        Some(address) => {
            line.add(b") at 0x");
            line.add_number(address, 16);
        }
        None => line.add(b") sent by a process"),
    }
    let mut thread = [0u8; 16];
    // SAFETY: the name has 16 bytes at most, with its end.
    unsafe { libc::prctl(libc::PR_GET_NAME, thread.as_mut_ptr()) };
    line.add(b", thread ");
    line.add(CStr::from_bytes_until_nul(&thread).map_or(b"", CStr::to_bytes));
    if let Some(gpu) = device_of_thread() {
        line.add(b", cuda:");
        line.add_number(gpu, 10);
    }
    line.add(b", last: ");
    let count = STAGE_BYTES.load(Ordering::Acquire).min(MOST_BYTES);
    for byte in &STAGE[..count] {
        line.add(&[byte.load(Ordering::Relaxed)]);
    }
    line.add(b"\n");
    line.write();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_long_texts_fit_into_the_line() {
        let mut line = Line { bytes: [0; 512], length: 0 };
        line.add_number(0, 10);
        line.add(b" ");
        line.add_number(1234, 10);
        line.add(b" ");
        line.add_number(0xdead_beef, 16);
        assert_eq!(&line.bytes[..line.length], b"0 1234 deadbeef");
        line.add(&[b'x'; 600]);
        assert_eq!(line.length, 512);
        note_stage(&"a long stage ".repeat(40));
        assert_eq!(STAGE_BYTES.load(Ordering::Relaxed), MOST_BYTES);
    }
}
