//! `toolkit doctor`: what is installed, what is missing, and the command that mends it.

use anyhow::{Context, Result};
use serde::Serialize;

use super::print::{self, say};
use crate::cli::{DoctorArgs, Format, Global};
use crate::error::Outcome;
use crate::hub;
use crate::models::{self, MODELS, ModelEntry, ModelSource};
use crate::runtime::{self, Cuda, machine};

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Not here; nothing is broken by that.
    Missing,
    /// It should work, and does not.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    part: &'static str,
    name: String,
    state: State,
    value: String,
    /// The command that mends it, or what to do; empty when all is well.
    remedy: String,
}

impl Check {
    fn ok(part: &'static str, name: &str, value: String) -> Self {
        Self { part, name: name.to_string(), state: State::Ok, value, remedy: String::new() }
    }

    fn new(part: &'static str, name: &str, state: State, value: String, remedy: impl Into<String>) -> Self {
        Self { state, remedy: remedy.into(), ..Self::ok(part, name, value) }
    }
}

pub fn run(args: DoctorArgs, _global: &Global) -> Result<Outcome> {
    let mut checks = vec![libtorch(), cuda()];
    checks.extend(gpus());
    checks.extend(host()?);
    checks.extend(MODELS.iter().map(model));
    checks.push(lpips_heads());
    match args.format {
        Format::Json => say!("{}", serde_json::to_string_pretty(&checks)?),
        Format::Csv => print::table(|table| checks.iter().try_for_each(|check| table.serialize(check)))?,
        Format::Text => print_text(&checks)?,
    }
    Ok(Outcome::Done)
}

fn libtorch() -> Check {
    let built_for = runtime::shim::libtorch_version();
    let place = runtime::libtorch_folder().map(|folder| folder.display().to_string()).unwrap_or_default();
    match runtime::libtorch_version_in_use() {
        Some(version) if version.split('+').next() == Some(&built_for) => {
            Check::ok("libtorch", "version", format!("{version} in {place}"))
        }
        found => Check::new(
            "libtorch",
            "version",
            State::Broken,
            format!("{} in {place}, but the program was built for {built_for}", found.as_deref().unwrap_or("unknown")),
            "unset LD_LIBRARY_PATH and LIBTORCH, then ./toolkit doctor",
        ),
    }
}

fn cuda() -> Check {
    let outcome = runtime::load_cuda();
    let value = outcome.to_string();
    let broken = |remedy: &str| Check::new("libtorch", "CUDA", State::Broken, value.clone(), remedy);
    match outcome {
        Cuda::NoDriver(_) => Check::ok("libtorch", "CUDA", format!("{value}: models run on the CPU")),
        Cuda::NoLibrary(_) => broken(
            "name a CUDA build of libtorch 2.11.0 in LIBTORCH, or unset it and uninstall Python's CPU-only torch: \
             ./toolkit then fetches one",
        ),
        Cuda::Failed(_) => broken(
            "./toolkit doctor fetches the libraries of its own libtorch; with LIBTORCH or Python's torch in use: \
             python3 -m pip install --force-reinstall torch==2.11.0",
        ),
        Cuda::Loaded(_) if tch::Cuda::device_count() == 0 => {
            broken("CUDA sees no GPU: check CUDA_VISIBLE_DEVICES with nvidia-smi, and that the driver is 580 or newer")
        }
        Cuda::Loaded(_) => Check::ok("libtorch", "CUDA", value),
    }
}

/// The driver's list; else what CUDA itself says of the devices it sees.
fn gpus() -> Vec<Check> {
    let listed = machine::gpus();
    if !listed.is_empty() {
        let line = |gpu: &machine::Gpu| {
            let (free, total) = (gib(gpu.memory_free), gib(gpu.memory_total));
            format!("{}, {free} of {total} free, driver {}", gpu.name, gpu.driver)
        };
        return listed.iter().enumerate().map(|(n, gpu)| Check::ok("GPU", &n.to_string(), line(gpu))).collect();
    }
    let seen = (0..tch::Cuda::device_count().max(0) as usize).filter_map(|n| Some((n, runtime::shim::cuda_memory(n)?)));
    let line = |(free, total)| format!("{} of {} free", gib(free), gib(total));
    seen.map(|(n, memory)| Check::ok("GPU", &n.to_string(), line(memory))).collect()
}

fn host() -> Result<Vec<Check>> {
    let mut checks = vec![Check::ok("machine", "CPU cores", machine::cores().to_string())];
    if let Some((total, available)) = machine::memory() {
        checks.push(Check::ok("machine", "memory", format!("{} of {} free", gib(available), gib(total))));
    }
    let runs = std::env::current_dir().context("where am I?")?.join("runs");
    for (name, path) in [("disk for models", hub::cache_dir()), ("disk for runs", runs)] {
        if let Some(free) = machine::disk_free(&path) {
            checks.push(Check::ok("machine", name, format!("{} free in {}", gib(free), path.display())));
        }
    }
    Ok(checks)
}

fn model(entry: &ModelEntry) -> Check {
    if let Some(path) = models::find_local(entry) {
        return Check::ok("model", entry.name, path.display().to_string());
    }
    match entry.source {
        ModelSource::Embedded(folder) => {
            let folder = format!("experiments/mini/{folder}");
            let remedy = format!("git checkout -- {folder}");
            Check::new("model", entry.name, State::Broken, format!("{folder} is gone"), remedy)
        }
        _ => {
            let remedy = format!("./toolkit models pull {}", entry.name);
            Check::new("model", entry.name, State::Missing, format!("not here; {}", entry.about), remedy)
        }
    }
}

fn lpips_heads() -> Check {
    const FILE: &str = "assets/lpips/alex.pth";
    match runtime::home().map(|home| home.join(FILE)).ok().filter(|path| path.is_file()) {
        Some(path) => Check::ok("model", "LPIPS heads", path.display().to_string()),
        None => Check::new(
            "model",
            "LPIPS heads",
            State::Broken,
            format!("{FILE} is gone"),
            format!("git checkout -- {FILE}"),
        ),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

fn print_text(checks: &[Check]) -> Result<()> {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut part = "";
    for check in checks {
        if check.part != part {
            part = check.part;
            say!("{part}");
        }
        let mark = match check.state {
            State::Ok => "ok     ",
            State::Missing => "missing",
            State::Broken => "BROKEN ",
        };
        say!("  {mark}  {:width$}  {}", check.name, check.value);
        if !check.remedy.is_empty() {
            say!("           {:width$}  → {}", "", check.remedy);
        }
    }
    Ok(())
}
