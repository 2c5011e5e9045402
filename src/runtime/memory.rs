//! How much memory is there, how much of it may be used, and how much was used at most.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use tch::Device;

use super::gpus::gpu_memory;
use super::shim::{self, Allocated};

/// The most bytes of device memory to use; `u64::MAX`: all there are.
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Lets the C library keep freed memory for what is allocated next, up to a gibibyte. By itself it gives pieces of more than
/// 32 MiB back to the system at once, and all that lies free at its end: a model that computes on a CPU then has the same pages
/// taken from it and zeroed again for each of its layers, which was up to a seventh of its processor time.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    for (parameter, bytes) in [
        // As much as any version of glibc takes; newer ones take the next as well.
        (libc::M_MMAP_THRESHOLD, 32 << 20),
        (libc::M_MMAP_THRESHOLD, 1 << 30),
        (libc::M_TRIM_THRESHOLD, 1 << 30),
    ] {
        // SAFETY: numbers alone are passed. What is refused stays as it was.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}

/// Keeps this process within so many bytes of each CUDA device. Counts from the first allocation on, so it comes before
/// it. Beside them CUDA takes about half a gigabyte for itself.
pub fn limit_memory(device: Device, bytes: u64) -> Result<()> {
    let Device::Cuda(n) = device else {
        tracing::warn!("the memory limit is one of GPUs: on the CPU it limits nothing");
        return Ok(());
    };
    LIMIT.store(bytes, Ordering::Relaxed);
    // By the driver: libtorch's allocator reads its share once, when it is first asked for anything.
    let total = gpu_memory(n).unwrap_or(0);
    let shared = total <= bytes || shim::share_cuda_memory(bytes as f64 / total as f64);
    ensure!(shared, "libtorch cannot be kept within a memory limit on {device:?}");
    Ok(())
}

/// Bytes that tensors can still take on a CUDA device, within the limit; None on the CPU, where weights are mapped files.
pub fn free_memory(device: Device) -> Option<u64> {
    #[cfg(test)]
    if let Some(bytes) = ACTED_FREE.get() {
        return Some(bytes);
    }
    let Device::Cuda(n) = device else { return None };
    let (free, _) = shim::cuda_memory(n)?;
    Some(within(free, shim::cuda_allocated(n), LIMIT.load(Ordering::Relaxed)))
}

/// Memory of a CUDA device that this process may use in all; None on the CPU.
pub fn total_memory(device: Device) -> Option<u64> {
    let Device::Cuda(n) = device else { return None };
    shim::cuda_memory(n).map(|(_, total)| total.min(LIMIT.load(Ordering::Relaxed)))
}

/// What the device has left, or the limit, whichever is less, and what libtorch keeps for the next tensors.
fn within(free: u64, held: Option<Allocated>, limit: u64) -> u64 {
    let held = held.unwrap_or(Allocated { now: 0, peak: 0, reserved: 0 });
    free.min(limit.saturating_sub(held.reserved)) + held.reserved.saturating_sub(held.now)
}

/// Says with `-v` how much memory was used at most.
pub fn log_peak_memory(device: Device) {
    if let Some(bytes) = peak_memory(device) {
        tracing::debug!("peak memory: {bytes} bytes ({:.1} GB)", bytes as f64 / 1e9);
    }
}

#[cfg(test)]
thread_local!(static ACTED_FREE: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) });

/// Acts out so much free memory for this thread, whatever the device is; None ends it.
#[cfg(test)]
pub fn acted_free(bytes: Option<u64>) {
    ACTED_FREE.set(bytes);
}

/// The most bytes held since the start or [`reset_peak_memory`]: of the process on the CPU, of
/// tensors on a CUDA device. None where the system does not tell.
pub fn peak_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(n) => shim::cuda_allocated(n).map(|held| held.peak),
        _ => {
            let status = std::fs::read_to_string("/proc/self/status").ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            let kilobytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse().ok()?;
            Some(kilobytes * 1024)
        }
    }
}

/// Starts a new measurement, where the system allows it.
pub fn reset_peak_memory(device: Device) {
    match device {
        Device::Cuda(n) => shim::reset_peak(n),
        // "5" sets the peak back to the present size (proc(5)).
        _ => drop(std::fs::write("/proc/self/clear_refs", "5")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_counts_what_is_held_and_what_is_kept() {
        const GIB: u64 = 1 << 30;
        let held = |now, reserved| Some(Allocated { now: now * GIB, peak: 0, reserved: reserved * GIB });
        assert_eq!(within(70 * GIB, None, u64::MAX), 70 * GIB, "nothing was allocated yet");
        assert_eq!(within(70 * GIB, None, 24 * GIB), 24 * GIB);
        assert_eq!(within(10 * GIB, None, 24 * GIB), 10 * GIB, "others hold the rest");
        assert_eq!(within(55 * GIB, held(12, 15), u64::MAX), 58 * GIB, "what is kept can be used again");
        assert_eq!(within(55 * GIB, held(12, 15), 24 * GIB), 12 * GIB);
        assert_eq!(within(55 * GIB, held(24, 25), 24 * GIB), GIB);
        assert_eq!(within(55 * GIB, held(25, 25), 24 * GIB), 0);
    }

    #[test]
    fn the_cpu_has_no_limit() {
        limit_memory(Device::Cpu, 1).unwrap();
        assert_eq!((free_memory(Device::Cpu), total_memory(Device::Cpu)), (None, None));
        assert_eq!(LIMIT.load(Ordering::Relaxed), u64::MAX);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_grows_with_what_is_held() {
        let before = peak_memory(Device::Cpu).unwrap();
        let held = vec![1u8; 256 << 20];
        assert!(held.iter().step_by(4096).all(|&byte| byte == 1));
        assert!(peak_memory(Device::Cpu).unwrap() >= before.min(64 << 20) + (192 << 20));
    }
}
