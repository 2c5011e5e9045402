//! How busy GPUs are, as their driver tells it (NVML): the share of the time in which a kernel ran, however few of the
//! card's multiprocessors it used.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::machine::process_seconds;
use super::wake::{driver_function, function_of};

const LIBRARY: &CStr = c"libnvidia-ml.so.1";
/// Between two looks. The driver tells of the last sixth of a second, or the last second.
const EVERY: Duration = Duration::from_millis(100);
/// Room for a PCI address as text.
const ADDRESS: usize = 32;

/// What the driver said at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Since the process was started.
    pub seconds: f64,
    /// 0 to 1, the mean of all GPUs.
    pub busy: f64,
}

/// Looks on in the background until [`Self::stop`].
pub struct BusyMeter {
    over: Arc<AtomicBool>,
    looks: JoinHandle<Vec<Look>>,
}

type Handle = *mut c_void;

/// As NVML has it, in percent.
#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    _memory: c_uint,
}

type AskUtilization = unsafe extern "C" fn(Handle, *mut Utilization) -> c_int;

impl BusyMeter {
    /// Of these GPUs, by their numbers in this process.
    pub fn start(gpus: Vec<usize>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let looks = std::thread::spawn(move || watch(&gpus, &ended).unwrap_or_default());
        Self { over, looks }
    }

    /// What was seen, in order; nothing where the driver does not tell.
    pub fn stop(self) -> Vec<Look> {
        self.over.store(true, Ordering::Relaxed);
        self.looks.join().unwrap_or_default()
    }
}

/// The mean of what was seen between two moments; None where nothing was.
pub fn mean_busy(looks: &[Look], from: f64, to: f64) -> Option<f64> {
    let seen: Vec<f64> = looks.iter().filter(|look| (from..to).contains(&look.seconds)).map(|look| look.busy).collect();
    (!seen.is_empty()).then(|| seen.iter().sum::<f64>() / seen.len() as f64)
}

fn watch(gpus: &[usize], over: &AtomicBool) -> Option<Vec<Look>> {
    if gpus.is_empty() {
        return None;
    }
    let handles = gpus.iter().map(|gpu| handle(*gpu)).collect::<Option<Vec<Handle>>>()?;
    let ask = function_of(LIBRARY, c"nvmlDeviceGetUtilizationRates")?;
    // SAFETY: the type is that of the library's header.
    let ask = unsafe { std::mem::transmute::<*mut c_void, AskUtilization>(ask) };
    let mut looks = Vec::new();
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(EVERY);
        let mut sum = 0.0;
        for handle in &handles {
            let mut told = Utilization::default();
            // SAFETY: the struct is written, not kept; the handle is one of the library's.
            if unsafe { ask(*handle, &mut told) } != 0 {
                return Some(looks);
            }
            sum += f64::from(told.gpu) / 100.0;
        }
        looks.push(Look { seconds: process_seconds()?, busy: sum / handles.len() as f64 });
    }
    Some(looks)
}

/// NVML's own of a GPU: it counts all cards of the machine, so it is asked by the address on the bus.
fn handle(gpu: usize) -> Option<Handle> {
    let driver = [c"cuInit", c"cuDeviceGet", c"cuDeviceGetPCIBusId"].map(driver_function);
    let library = [c"nvmlInit_v2", c"nvmlDeviceGetHandleByPciBusId_v2"].map(|name| function_of(LIBRARY, name));
    let ([init, get, address], [begin, find]) = (driver, library);
    let (init, get, address, begin, find) = (init?, get?, address?, begin?, find?);
    let (mut device, mut handle) = (0, std::ptr::null_mut());
    let mut text = [0 as c_char; ADDRESS];
    // SAFETY: the types are those of the headers; what is pointed to is written, not kept, and the text is as long as it
    // is said to be.
    let found = unsafe {
        let init = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_uint) -> c_int>(init);
        let get = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(get);
        let address =
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int>(address);
        let begin = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(begin);
        let find = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int>(find);
        init(0) == 0
            && get(&mut device, gpu as c_int) == 0
            && address(text.as_mut_ptr(), ADDRESS as c_int, device) == 0
            && begin() == 0
            && find(text.as_ptr(), &mut handle) == 0
    };
    found.then_some(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_of_what_was_seen_in_that_time() {
        let looks = [(0.1, 0.0), (0.2, 1.0), (0.3, 0.5), (0.4, 0.0)].map(|(seconds, busy)| Look { seconds, busy });
        assert_eq!(mean_busy(&looks, 0.15, 0.4), Some(0.75));
        assert_eq!(mean_busy(&looks, 0.5, 0.9), None);
        assert_eq!(BusyMeter::start(Vec::new()).stop(), [], "no GPU, nothing to see");
    }
}
