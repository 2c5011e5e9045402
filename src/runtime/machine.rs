//! What the machine has: GPUs, cores, memory, disk.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// An NVIDIA GPU as its driver reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    pub name: String,
    /// Bytes.
    pub memory_total: u64,
    /// Bytes.
    pub memory_free: u64,
    /// The driver's version.
    pub driver: String,
}

/// Every GPU that `nvidia-smi` lists; none where there is no such program.
pub fn gpus() -> Vec<Gpu> {
    let query = ["--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits"];
    match Command::new("nvidia-smi").args(query).output() {
        Ok(output) if output.status.success() => parse_gpus(&String::from_utf8_lossy(&output.stdout)),
        _ => Vec::new(),
    }
}

/// A line a GPU; memory in MiB.
fn parse_gpus(text: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let mut fields = line.split(", ");
        let name = fields.next()?.trim().to_string();
        // Some boards report no memory of their own ("[N/A]").
        let mut mebibytes = || Some(fields.next()?.trim().parse::<u64>().unwrap_or(0) << 20);
        let (memory_total, memory_free) = (mebibytes()?, mebibytes()?);
        Some(Gpu { name, memory_total, memory_free, driver: fields.next()?.trim().to_string() })
    };
    text.lines().filter_map(gpu).collect()
}

/// Total and available main memory in bytes.
pub fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
    };
    Some((field("MemTotal")?, field("MemAvailable")?))
}

/// Seconds since this process was started, to a hundredth.
pub fn process_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
    // The name may hold anything, spaces too; the start is the 20th field after it, in ticks since the machine's own.
    let ticks: f64 = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    // SAFETY: asks for a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    (per_second > 0).then(|| uptime - ticks / per_second as f64)
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes that an ordinary user can still write where `path` is, or would be.
pub fn disk_free(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let existing = path.ancestors().find(|folder| folder.exists())?;
    let name = CString::new(existing.as_os_str().as_bytes()).ok()?;
    // SAFETY: `statvfs` is plain data that the call fills; the name is a C string.
    let stats = unsafe {
        let mut stats: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(name.as_ptr(), &mut stats) != 0 {
            return None;
        }
        stats
    };
    Some(stats.f_bavail * stats.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nvidia_smi_prints_is_understood() {
        let text = "NVIDIA H100 80GB HBM3, 81559, 81000, 580.95.05\nNVIDIA GB10, [N/A], [N/A], 580.95.05\n";
        let found = parse_gpus(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].memory_free), ("NVIDIA H100 80GB HBM3", 81000 << 20));
        assert_eq!((found[1].memory_total, found[1].driver.as_str()), (0, "580.95.05"));
        assert_eq!(parse_gpus("No devices were found\n"), []);
    }

    #[test]
    fn memory_and_disk_are_told() {
        let (total, available) = memory().unwrap();
        assert!(0 < available && available <= total);
        let folder = tempfile::tempdir().unwrap();
        assert!(disk_free(&folder.path().join("not/there/yet")).unwrap() > 0);
    }
}
