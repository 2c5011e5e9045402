//! How much memory was used at most.

use tch::Device;

use super::shim;

/// The most bytes held since the start or [`reset_peak_memory`]: of the process on the CPU, of
/// tensors on a CUDA device. None where the system does not tell.
pub fn peak_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(n) => shim::cuda_allocated(n).map(|(_, peak)| peak),
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
    #[cfg(target_os = "linux")]
    fn the_peak_grows_with_what_is_held() {
        let before = peak_memory(Device::Cpu).unwrap();
        let held = vec![1u8; 256 << 20];
        assert!(held.iter().step_by(4096).all(|&byte| byte == 1));
        assert!(peak_memory(Device::Cpu).unwrap() >= before.min(64 << 20) + (192 << 20));
    }
}
