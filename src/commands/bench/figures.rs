//! What is measured, and the tools to measure with.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};
use tch::Device;

use crate::cli::Format;
use crate::commands::print::{self, say};
use crate::runtime::profiled;

/// What was measured, in the order in which it is printed.
#[derive(Debug, Default)]
pub struct Figures(Map<String, Value>);

impl Figures {
    pub fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_string(), value.into());
    }

    pub fn print(&self, format: Format) -> Result<()> {
        match format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&self.0)?),
            Format::Text => {
                for (name, value) in &self.0 {
                    say!("{name:<22}{}", text(value));
                }
            }
            Format::Csv => {
                print::table(|csv| {
                    csv.write_record(self.0.keys())?;
                    csv.write_record(self.0.values().map(text))
                })?;
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Runs `work` once to warm up and `repeat` times for the clock; the median in seconds.
pub fn median_seconds(device: Device, repeat: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut seconds = Vec::with_capacity(repeat);
    for round in 1..=repeat {
        seconds.push(shown_once(device, round, || timed(device, &mut work))?.1);
    }
    Ok(median(&mut seconds))
}

/// Does the `work` of a round, counted from 1: the first after the warm-up is what a profiler sees.
pub fn shown_once<T>(device: Device, round: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if round != 1 || !device.is_cuda() {
        return work();
    }
    synchronize(device);
    profiled(work)
}

/// Processor time of this process so far, in seconds: all threads, user and system.
pub fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// What `work` gives, and how long it and the device were busy with it, in seconds.
pub fn timed<T>(device: Device, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    synchronize(device);
    let start = Instant::now();
    let made = work()?;
    synchronize(device);
    Ok((made, start.elapsed().as_secs_f64()))
}

/// Of at least one value.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Waits until the device has done what it was given.
pub fn synchronize(device: Device) {
    if let Device::Cuda(n) = device {
        tch::Cuda::synchronize(n as i64);
    }
}

/// `float32`, `float16` or `bfloat16`.
pub fn dtype_name(kind: tch::Kind) -> Value {
    json!(match kind {
        tch::Kind::Half => "float16",
        tch::Kind::BFloat16 => "bfloat16",
        _ => "float32",
    })
}

pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(n) => format!("cuda:{n}"),
        _ => format!("cpu ({} threads)", tch::get_num_threads()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_even_and_odd_counts() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
