//! `toolkit bench study`: all of `style_ablation` in this process, as `experiment` does it: phase by phase, with what the
//! device waited for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use tch::Device;
use tempfile::TempDir;

use super::figures::device_name;
use super::photos;
use crate::cli::{BenchArgs, Format, Global};
use crate::commands::experiment::machine;
use crate::commands::print::{self, say};
use crate::error::{Outcome, usage};
use crate::experiment::models::{Captioners, OnThisMachine};
use crate::experiment::{self, Asked, Conclusion, Progress};
use crate::report;
use crate::runtime::machine::process_seconds;
use crate::runtime::{BusyMeter, Look, Stretch, during, mean_busy, note_times, noted_times, peak_memory, set_eager};

const EXPERIMENT: &str = "style_ablation";
const PHOTOS: usize = 40;
const STYLES: usize = 2;
/// What is written for the study before its time begins.
const PREPARING: &str = "writing photos";

/// The styles of the first strategies; further ones have a number.
const STYLE_TEXTS: [&str; 4] = [
    "Peanuts comic style",
    "a cartoon character in Peanuts comic style, flat colors, thick outlines, simple shapes, cute and minimalist",
    "oil painting with thick brush strokes",
    "pencil drawing on rough paper",
];

/// What was measured.
#[derive(Debug, Serialize)]
struct Study {
    photos: usize,
    styles: usize,
    pictures: usize,
    /// From the start of the process to the page, without [`PREPARING`].
    whole_seconds: f64,
    pictures_per_second: f64,
    phases: Vec<Phase>,
    device: String,
    dtype: String,
    batch_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize, PartialEq)]
struct Phase {
    phase: String,
    seconds: f64,
    /// Of the whole.
    share: f64,
    /// The share of it in which a kernel ran on the GPU, the mean of all GPUs; none where nothing tells.
    device_busy: Option<f64>,
    /// What this process did in it: `computing` is what asks the device and waits for it, for everything else the device
    /// waits, unless workers have it.
    parts: BTreeMap<&'static str, f64>,
}

pub fn run(args: &BenchArgs, global: &Global) -> Result<Outcome> {
    check(args)?;
    note_times();
    set_eager(args.plain);
    let scratch = tempfile::tempdir()?;
    let asked = args.study.photos.unwrap_or(PHOTOS);
    let folder = scratch.path().join("photos");
    during(PREPARING, || {
        fs::create_dir(&folder).map_err(anyhow::Error::from).and_then(|()| photos::write(&folder, asked))
    })?;
    let mut models = machine(global, global.offline)?;
    if args.random_weights {
        let nowhere = scratch.path().join("no files");
        fs::create_dir(&nowhere)?;
        models = models.with_random_weights(nowhere);
    }
    let gpus = models.gpus();
    let meter = BusyMeter::start(gpus);
    let done = study(args, global, &models, &folder, &scratch);
    let looks = meter.stop();
    let batch_size = done?;
    let whole = process_seconds().unwrap_or(0.0);
    let styles = args.study.styles.unwrap_or(STYLES);
    let phases = phases(&noted_times(), whole, &looks);
    let whole_seconds = phases.iter().map(|phase| phase.seconds).sum();
    let (device, dtype) = models.place();
    let study = Study {
        photos: asked,
        styles,
        pictures: asked * styles,
        whole_seconds,
        pictures_per_second: (asked * styles) as f64 / whole_seconds,
        phases,
        device: if device == "cpu" { device_name(Device::Cpu) } else { device },
        dtype,
        batch_size,
        peak_memory_bytes: models.team().is_none().then(|| peak_memory(models.runtime().device)).flatten(),
    };
    study.print(args.format)?;
    Ok(Outcome::Done)
}

fn check(args: &BenchArgs) -> Result<()> {
    if args.strength.is_some() || args.pictures.is_some() || args.shortest_text.is_some() {
        return Err(usage(
            "--strength, --pictures and --shortest-text are not for study (--photos N, --set strength=S)",
        ));
    }
    if args.study.photos == Some(0) || args.study.styles == Some(0) {
        return Err(usage("--photos and --styles must be at least 1"));
    }
    if let Some(out) = &args.study.out
        && fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(usage(format!(
            "--out {}: there is something in it: a run that goes on is not whole",
            out.display()
        )));
    }
    if let Some(weights) = &args.study.weights
        && !weights.is_dir()
    {
        return Err(usage(format!("--weights {}: no such folder", weights.display())));
    }
    Ok(())
}

/// Runs it as `experiment` does; pictures at a time.
fn study(args: &BenchArgs, global: &Global, models: &OnThisMachine, photos: &Path, scratch: &TempDir) -> Result<usize> {
    let file = experiment::find(EXPERIMENT)?;
    let sets = settings(args, photos);
    let profile = args.study.profile.as_deref().unwrap_or("full");
    let planned = experiment::kind(&file)?.load(&file, &Asked { profile, sets: &sets, ..Asked::default() })?;
    let out = args.study.out.clone().unwrap_or_else(|| scratch.path().join("run"));
    during("checking", || planned.check(models))?;
    let Conclusion { failures, failed, count, .. } = planned.run(&out, models, Progress::new(global.quiet))?;
    if failed > 0 {
        bail!("{failed} of {count} pictures failed, so their time says nothing: {}", failures.join("; "));
    }
    during("page", || report::render(&out))?;
    Ok(args.batch_size.unwrap_or_else(|| models.batch_size()))
}

/// As `--set` has them; what the user sets comes last and wins.
fn settings(args: &BenchArgs, photos: &Path) -> Vec<String> {
    let quoted = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned());
    let text = |at: usize| STYLE_TEXTS.get(at).map_or_else(|| format!("style number {at}"), |text| (*text).to_string());
    let styles: toml::Table =
        (0..args.study.styles.unwrap_or(STYLES)).map(|at| (format!("style{at}"), text(at).into())).collect();
    // Photos are what they are: nothing is to be said of their shape.
    let mut sets = vec!["fit=\"squash\"".to_string(), format!("photos={}", quoted(photos.to_path_buf()))];
    sets.push(format!("style_text={}", toml::Value::Table(styles)));
    if let Some(weights) = &args.study.weights {
        let nets = weights.join("nets");
        let files = [
            ("captioner", weights.join("phi4")),
            ("generator", weights.join("sd3")),
            ("inception", nets.join("art_inception.pth")),
            ("lpips_backbone", nets.join("alexnet.pth")),
            ("lpips_linear", nets.join("alex.pth")),
        ];
        sets.extend(files.map(|(key, path)| format!("{key}={}", quoted(path))));
    }
    if args.random_weights || args.study.weights.is_some() {
        // The networks of the other metrics are not there.
        sets.push("metrics=[\"artfid\", \"fid\", \"lpips\", \"kid\"]".to_string());
    }
    let numbers = [
        ("steps", args.steps),
        ("width", args.width),
        ("height", args.height),
        ("batch_size", args.batch_size),
        ("max_new_tokens", args.max_new_tokens),
    ];
    sets.extend(numbers.into_iter().filter_map(|(key, number)| number.map(|number| format!("{key}={number}"))));
    sets.extend(args.study.set.iter().cloned());
    sets
}

/// The outermost stretches as phases, and what lies between them; [`PREPARING`] is none.
fn phases(stretches: &[Stretch], whole: f64, looks: &[Look]) -> Vec<Phase> {
    let mut outer: Vec<&Stretch> = stretches.iter().filter(|stretch| stretch.depth == 0).collect();
    outer.sort_by(|a, b| a.start.total_cmp(&b.start));
    let mut phases = Vec::new();
    let mut now = 0.0;
    let mut add = |name: &str, from: f64, to: f64, parts| {
        let device_busy = mean_busy(looks, from, to);
        phases.push(Phase { phase: name.to_string(), seconds: to - from, share: 0.0, device_busy, parts });
    };
    for stretch in outer {
        // Before the photos are written nothing of the study has begun but the process.
        let name = if now == 0.0 { "starting" } else { "between" };
        add(name, now, stretch.start, BTreeMap::new());
        now = stretch.end;
        if stretch.name == PREPARING {
            continue;
        }
        let mut parts = BTreeMap::new();
        let within = |other: &&Stretch| other.depth > 0 && stretch.start <= other.start && other.end <= stretch.end;
        stretches.iter().filter(within).for_each(|inner| *parts.entry(inner.name).or_insert(0.0) += inner.own);
        if !parts.is_empty() {
            parts.insert("the rest", stretch.own);
        }
        add(stretch.name, stretch.start, stretch.end, parts);
    }
    add("between", now, whole, BTreeMap::new());
    joined(phases)
}

/// Shares; and everything between phases, which is short, as the last.
fn joined(phases: Vec<Phase>) -> Vec<Phase> {
    let whole: f64 = phases.iter().map(|phase| phase.seconds).sum();
    let (between, mut phases): (Vec<Phase>, Vec<Phase>) =
        phases.into_iter().partition(|phase| phase.phase == "between");
    let seconds = between.iter().map(|phase| phase.seconds).sum();
    phases.push(Phase {
        phase: "between these".to_string(),
        seconds,
        share: 0.0,
        device_busy: None,
        parts: BTreeMap::new(),
    });
    phases.iter_mut().for_each(|phase| phase.share = phase.seconds / whole);
    phases
}

impl Study {
    fn print(&self, format: Format) -> Result<()> {
        match format {
            Format::Json => say!("{}", serde_json::to_string_pretty(self)?),
            Format::Csv => print::table(|csv| {
                csv.write_record(["phase", "seconds", "share", "device_busy"])?;
                self.phases.iter().try_for_each(|phase| {
                    let busy = phase.device_busy.map_or(String::new(), |busy| busy.to_string());
                    csv.write_record([&phase.phase, &phase.seconds.to_string(), &phase.share.to_string(), &busy])
                })
            })?,
            Format::Text => print::text(&self.table())?,
        }
        Ok(())
    }

    fn table(&self) -> String {
        let mut table = String::new();
        let _ = writeln!(table, "{:18} {:>8} {:>6} {:>6}  of it", "phase", "s", "share", "busy");
        for Phase { phase, seconds, share, device_busy, parts } in &self.phases {
            let busy = device_busy.map_or("-".to_string(), |busy| format!("{:.0} %", 100.0 * busy));
            let parts: Vec<String> = parts.iter().map(|(name, seconds)| format!("{name} {seconds:.2}")).collect();
            let line = format!(
                "{phase:18} {seconds:8.2} {:>6} {busy:>6}  {}",
                format!("{:.0} %", 100.0 * share),
                parts.join(", ")
            );
            let _ = writeln!(table, "{}", line.trim_end());
        }
        let _ = writeln!(
            table,
            "{} photos in {} styles on {}, {} at a time: {:.2} s from the start of the process, {:.3} pictures/s",
            self.photos, self.styles, self.device, self.batch_size, self.whole_seconds, self.pictures_per_second
        );
        table
    }
}
