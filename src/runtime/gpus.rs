//! Several devices at once, as `--device` names them. The driver is asked, not libtorch: the parent of workers uses no GPU.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use anyhow::Result;
use tch::Device;

use super::wake::driver_function;
use crate::error::usage;

/// The devices that `--device` names where it names several (`cuda:all`, `cuda:0,2`, `cpu,cpu`), one for each worker.
/// None where it names one.
///
/// # Errors
/// Wrong usage: what is no device, GPUs that are not here or named twice, and devices of two kinds, whose results differ.
pub fn several_devices(device: &str) -> Result<Option<Vec<String>>> {
    if device == "cuda:all" || device.contains(',') { listed(device, gpu_count()).map(Some) } else { Ok(None) }
}

/// What [`several_devices`] will most likely say, told without the driver, which takes a moment to answer.
pub fn foreseen_devices(device: &str) -> Option<Vec<String>> {
    if device != "cuda:all" {
        return if device.contains(',') { listed(device, usize::MAX).ok() } else { None };
    }
    let gpus = match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(visible) => visible.split(',').filter(|gpu| !gpu.trim().is_empty()).count(),
        Err(_) => {
            let names =
                std::fs::read_dir("/dev").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            names.filter(|name| name.strip_prefix("nvidia").is_some_and(|gpu| gpu.parse::<u32>().is_ok())).count()
        }
    };
    listed(device, gpus).ok()
}

/// The device of a name that [`several_devices`] gives.
pub fn device_named(name: &str) -> Device {
    name.strip_prefix("cuda:").and_then(|gpu| gpu.parse().ok()).map_or(Device::Cpu, Device::Cuda)
}

fn listed(device: &str, gpus: usize) -> Result<Vec<String>> {
    if device == "cuda:all" {
        if gpus == 0 {
            return Err(usage("--device cuda:all: no GPU is here: use --device cpu, or see `toolkit doctor`"));
        }
        return Ok((0..gpus).map(|gpu| format!("cuda:{gpu}")).collect());
    }
    let (mut devices, mut last_is_gpu): (Vec<String>, bool) = (Vec::new(), false);
    for name in device.split(',').map(str::trim) {
        let number = name.strip_prefix("cuda:").or(last_is_gpu.then_some(name));
        let gpu: Option<usize> = number.and_then(|number| number.parse().ok());
        last_is_gpu = gpu.is_some();
        let named = match gpu {
            Some(gpu) if gpu >= gpus => {
                return Err(usage(format!(
                    "--device {device}: cuda:{gpu} is not here ({gpus} GPUs found): use cuda:all for all of them"
                )));
            }
            Some(gpu) => format!("cuda:{gpu}"),
            None if name == "cpu" => name.to_string(),
            None => {
                return Err(usage(format!(
                    "--device {device}: {name:?} is no device: use cuda:0,1, cuda:all or cpu,cpu"
                )));
            }
        };
        if named != "cpu" && devices.contains(&named) {
            return Err(usage(format!("--device {device}: {named} is there twice: a GPU has one worker")));
        }
        devices.push(named);
    }
    if devices.iter().any(|name| name == "cpu") && devices.iter().any(|name| name != "cpu") {
        return Err(usage(format!("--device {device}: results of CPU and GPU differ, so use devices of one kind")));
    }
    Ok(devices)
}

/// GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` says.
fn gpu_count() -> usize {
    let (Some(init), Some(get)) = (driver_function(c"cuInit"), driver_function(c"cuDeviceGetCount")) else { return 0 };
    let mut count = 0;
    // SAFETY: the types are those of the driver's header; the count is written, not kept.
    let told = unsafe {
        let init = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_uint) -> c_int>(init);
        let get = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int) -> c_int>(get);
        init(0) == 0 && get(&mut count) == 0
    };
    if told { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// Bytes of memory of a GPU, without a context on it; None where there is none.
pub fn gpu_memory(gpu: usize) -> Option<u64> {
    let (device, total) = (device_of(gpu)?, driver_function(c"cuDeviceTotalMem_v2")?);
    let mut bytes = 0;
    // SAFETY: the type is that of the driver's header; the bytes are written, not kept.
    let told = unsafe {
        let total = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut usize, c_int) -> c_int>(total);
        total(&mut bytes, device) == 0
    };
    told.then_some(bytes as u64)
}

/// The least compute capability with float8: Ada (RTX 40, L4, L40) and later.
const FLOAT8_CAPABILITY: (c_int, c_int) = (8, 9);

/// Refuses `--precision fp8` on a GPU that has no float8.
///
/// # Errors
/// Wrong usage, with the name of the GPU. Nothing is known, and refused, where there is no driver.
pub fn check_float8(gpu: usize) -> Result<()> {
    match compute_capability(gpu) {
        Some(found) if found < FLOAT8_CAPABILITY => Err(without_float8(gpu, &gpu_name(gpu), found)),
        _ => Ok(()),
    }
}

fn without_float8(gpu: usize, name: &str, (major, minor): (c_int, c_int)) -> anyhow::Error {
    let (least_major, least_minor) = FLOAT8_CAPABILITY;
    usage(format!(
        "--precision fp8 needs a GPU of compute capability {least_major}.{least_minor} or more (Ada, Hopper, Blackwell): \
         cuda:{gpu} ({name}) has {major}.{minor}; leave it out (with --from: give --dtype bfloat16), or imitate it with \
         --device cpu"
    ))
}

/// Whether groups of four warps multiply together there: Hopper has instructions for that which came with it and went
/// again.
pub fn multiplies_by_groups_of_warps(gpu: usize) -> bool {
    compute_capability(gpu) == Some((9, 0))
}

/// The generation of a GPU, such as (9, 0); None where there is none.
fn compute_capability(gpu: usize) -> Option<(c_int, c_int)> {
    // Numbers of the driver's header: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
    const PARTS: [c_int; 2] = [75, 76];
    let device = device_of(gpu)?;
    let ask = driver_function(c"cuDeviceGetAttribute")?;
    // SAFETY: the type is that of the driver's header.
    let ask =
        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>(ask) };
    let part = |which| {
        let mut value = 0;
        // SAFETY: the value is written, not kept.
        (unsafe { ask(&mut value, which, device) } == 0).then_some(value)
    };
    Some((part(PARTS[0])?, part(PARTS[1])?))
}

/// What the driver calls a GPU.
fn gpu_name(gpu: usize) -> String {
    let mut text = [0u8; 256];
    let told = device_of(gpu).zip(driver_function(c"cuDeviceGetName")).is_some_and(|(device, name)| {
        // SAFETY: the type is that of the driver's header; it writes at most as many bytes as said, a zero at the end.
        unsafe {
            let name =
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int>(name);
            name(text.as_mut_ptr().cast(), text.len() as c_int, device) == 0
        }
    });
    let name = CStr::from_bytes_until_nul(&text).ok().filter(|_| told);
    name.map_or_else(|| "a GPU".to_string(), |name| name.to_string_lossy().into_owned())
}

/// The driver's number of a GPU.
fn device_of(gpu: usize) -> Option<c_int> {
    if gpu >= gpu_count() {
        return None;
    }
    let get = driver_function(c"cuDeviceGet")?;
    let mut device = 0;
    // SAFETY: the type is that of the driver's header; the number is written, not kept.
    let told = unsafe {
        let get = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(get);
        get(&mut device, gpu as c_int) == 0
    };
    told.then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_without_float8_is_refused_by_name() {
        let error = without_float8(1, "NVIDIA A100-SXM4-80GB", (8, 0));
        assert!(error.is::<crate::error::UsageError>());
        assert!(error.to_string().contains("8.9 or more") && error.to_string().contains("A100-SXM4-80GB) has 8.0"));
        assert!(check_float8(usize::MAX).is_ok() && (8, 6) < FLOAT8_CAPABILITY && (12, 0) >= FLOAT8_CAPABILITY);
    }

    #[test]
    fn lists_of_devices() {
        for (device, gpus, expected) in [
            ("cuda:all", 2, "cuda:0 cuda:1"),
            ("cuda:0,2", 3, "cuda:0 cuda:2"),
            ("cuda:1,cuda:0", 2, "cuda:1 cuda:0"),
            ("cpu,cpu,cpu", 0, "cpu cpu cpu"),
        ] {
            assert_eq!(listed(device, gpus).unwrap().join(" "), expected);
        }
        for (device, gpus, says) in [
            ("cuda:all", 0, "no GPU is here: use --device cpu"),
            ("cuda:0,2", 2, "cuda:2 is not here (2 GPUs found)"),
            ("cuda:0,0", 2, "cuda:0 is there twice"),
            ("cuda:0,cpu", 2, "of one kind"),
            ("cpu,cuda:0", 1, "of one kind"),
            ("cpu,0", 1, "\"0\" is no device"),
            ("cuda:0,", 1, "\"\" is no device"),
            ("gpu,cpu", 1, "\"gpu\" is no device"),
        ] {
            let error = listed(device, gpus).unwrap_err();
            assert!(error.is::<crate::error::UsageError>() && error.to_string().contains(says), "{device}: {error}");
        }
        assert_eq!(several_devices("cuda:1").unwrap(), None);
        assert_eq!(foreseen_devices("cuda:1,0").unwrap(), ["cuda:1", "cuda:0"]);
        assert_eq!((foreseen_devices("cuda:1"), foreseen_devices("gpu,cpu")), (None, None));
    }
}
