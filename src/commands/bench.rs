//! `toolkit bench`: what can be measured, and the tools to measure with.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tch::Device;

use super::{bench_artfid, bench_captioner, bench_generator};
use crate::cli::{BenchArgs, Format, Global};
use crate::error::{Outcome, nearest, usage};
use crate::models::{Family, MODELS, locate};
use crate::runtime::{Runtime, peak_memory, profiled, set_eager};

/// Something that can be measured. A new one is one row in [`TARGETS`].
struct Target {
    /// Which models it measures.
    families: &'static [Family],
    measure: fn(&BenchArgs, &Runtime) -> Result<Figures>,
}

static TARGETS: &[Target] = &[
    Target { families: &[Family::ArtInception, Family::Lpips], measure: bench_artfid::measure },
    Target { families: &[Family::Blip], measure: bench_captioner::measure_blip },
    Target { families: &[Family::Phi4Multimodal], measure: bench_captioner::measure_phi4 },
    Target { families: &[Family::StableDiffusion], measure: bench_generator::measure_sd1 },
    Target { families: &[Family::StableDiffusion3], measure: bench_generator::measure_sd3 },
];

pub fn run(args: BenchArgs, global: &Global) -> Result<Outcome> {
    if args.repeat == 0 || args.batch_size == 0 {
        return Err(usage("--repeat and --batch-size must be at least 1"));
    }
    let rt = Runtime::new(global)?;
    set_eager(args.plain);
    let target = target(&args, &rt)?;
    if args.strength.is_some() && !target.families.iter().all(|family| family.is_generator()) {
        return Err(usage("--strength is for models that draw pictures"));
    }
    if args.pictures.is_some() && !target.families.contains(&Family::ArtInception) {
        return Err(usage("--pictures is for artfid"));
    }
    let mut figures = (target.measure)(&args, &rt)?;
    figures.add("peak_memory_bytes", peak_memory(rt.device));
    figures.add("device", device_name(rt.device));
    figures.add("batch_size", args.batch_size);
    figures.print(args.format)?;
    Ok(Outcome::Done)
}

fn target(args: &BenchArgs, rt: &Runtime) -> Result<&'static Target> {
    let family = if args.model == "artfid" {
        Family::ArtInception
    } else if let Some(entry) = MODELS.iter().find(|entry| entry.name == args.model) {
        entry.family
    } else if args.random_weights {
        let names = MODELS.iter().map(|entry| entry.name).chain(["artfid"]);
        let hint = nearest(&args.model, names);
        return Err(usage(format!("--random-weights builds a built-in model or artfid, not {:?}{hint}", args.model)));
    } else {
        locate(&args.model, rt)?.family
    };
    TARGETS
        .iter()
        .find(|target| target.families.contains(&family))
        .with_context(|| format!("nothing is measured of a {}", family.title()))
}

/// What was measured, in the order in which it is printed.
#[derive(Debug, Default)]
pub struct Figures(Map<String, Value>);

impl Figures {
    pub fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_string(), value.into());
    }

    fn print(&self, format: Format) -> Result<()> {
        match format {
            Format::Json => println!("{}", serde_json::to_string_pretty(&self.0)?),
            Format::Text => {
                for (name, value) in &self.0 {
                    println!("{name:<22}{}", text(value));
                }
            }
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(std::io::stdout());
                csv.write_record(self.0.keys())?;
                csv.write_record(self.0.values().map(text))?;
                csv.flush()?;
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
fn synchronize(device: Device) {
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

fn device_name(device: Device) -> String {
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
