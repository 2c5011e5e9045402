//! Failures of libtorch and of our own code as one line of text, never a backtrace.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};

/// Ends the program quietly when the reader of its output has gone (`toolkit … | head`), as other
/// programs end; Rust's own way is a panic in the middle of printing.
pub fn stop_when_nobody_reads() {
    // SAFETY: the default action is set before any thread starts.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Runs `work`; a panic inside (tch's plain calls panic on libtorch errors) comes back as an error
/// and its text is not printed.
pub fn without_panics<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::set_hook(Box::new(|info| tracing::debug!("{info}")));
    catch_panics(work)
}

/// The same for a part of the work, after which the rest goes on. How the text of a panic is shown
/// stays as it is.
pub fn catch_panics<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("unknown");
        Err(anyhow!("internal error: {}", first_line(text)))
    })
}

/// The whole chain of an error in one line; of a C++ exception only its first line.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(|cause| first_line(&cause.to_string())).collect::<Vec<_>>().join(": ")
}

/// libtorch's texts go on with a C++ backtrace after the first line, and tch wraps them in `Torch("…")`.
fn first_line(text: &str) -> String {
    let start = text.find("Torch(\"").map_or(text, |at| &text[at + 7..]);
    let line = start.split("\\n").next().unwrap_or(start);
    let line = line.split('\n').next().unwrap_or(line);
    line.split("Exception raised from").next().unwrap_or(line).trim().to_string()
}
