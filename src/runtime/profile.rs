//! What a profiler of the GPU is shown.

use super::cuda_shim::shim;

/// Does `work`, which a profiler that waits for it (`ncu --profile-from-start off`) then looks at.
pub fn profiled<T>(work: impl FnOnce() -> T) -> T {
    let show = |on| {
        if let Some(shim) = shim() {
            // SAFETY: no memory is passed. Without a profiler nothing happens.
            unsafe { (shim.profile)(on) };
        }
    };
    show(true);
    let out = work();
    show(false);
    out
}
