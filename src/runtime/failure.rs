//! Failures of libtorch and of our own code as one line of text, never a backtrace.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};

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
        let line = panic_line(payload.as_ref());
        if line.starts_with(MEMORY_IS_FULL) { Err(anyhow!(line)) } else { Err(anyhow!("internal error: {line}")) }
    })
}

/// What a panic said, in one line.
pub fn panic_line(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    first_line(text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("unknown"))
}

/// The whole chain of an error in one line; of a C++ exception only its first line.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(|cause| first_line(&cause.to_string())).collect::<Vec<_>>().join(": ")
}

/// What is said instead of libtorch's paragraph on its allocator.
const MEMORY_IS_FULL: &str = "the GPU's memory is full";

/// libtorch's texts go on with a C++ backtrace after the first line, and tch wraps them in `Torch("…")`.
fn first_line(text: &str) -> String {
    let start = text.find("Torch(\"").map_or(text, |at| &text[at + 7..]);
    let line = start.split("\\n").next().unwrap_or(start);
    let line = line.split('\n').next().unwrap_or(line);
    let line = line.split("Exception raised from").next().unwrap_or(line).trim();
    match line.split_once("CUDA out of memory. Tried to allocate ") {
        Some((before, after)) => {
            let wanted = after.split(". ").next().unwrap_or(after);
            format!(
                "{before}{MEMORY_IS_FULL}, {wanted} more were wanted: take a smaller batch (--batch-size, batch_size) or \
                 picture, end other programs that use it, or raise --memory-limit if that is set"
            )
        }
        None => line.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gpu_is_one_line_with_what_to_do() {
        let text = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate 32.00 MiB. GPU \
                    0 has a total capacity of 139.80 GiB of which 138.48 GiB is free. Including non-PyTorch memory, this \
                    process has 1.32 GiB memory in use.\\nException raised from malloc at CUDACachingAllocator.cpp:1502\")";
        let error: Result<()> = catch_panics(|| std::panic::panic_any(text.to_string()));
        let line = one_line(&error.unwrap_err().context("drawing a.png"));
        assert!(line.starts_with("drawing a.png: the GPU's memory is full, 32.00 MiB more were wanted: "), "{line}");
        assert!(line.ends_with("raise --memory-limit if that is set"), "{line}");
        let other: Result<()> = catch_panics(|| panic!("Torch(\"no such shape\\nException raised from view\")"));
        assert_eq!(one_line(&other.unwrap_err()), "internal error: no such shape");
    }
}
