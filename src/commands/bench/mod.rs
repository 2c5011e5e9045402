//! `toolkit bench`: what can be measured.

mod artfid;
mod captioner;
mod figures;
mod generator;
mod photos;
mod pictures;
mod steering;
mod study;

use anyhow::{Result, bail};
use tch::Device;

use self::figures::{Figures, device_name};
use crate::cli::{BenchArgs, Global};
use crate::commands::team::first_and_second;
use crate::error::{Outcome, nearest, usage};
use crate::models::{FAMILIES, Family, MODELS, MetricNetTask, Task, check_precision, locate};
use crate::runtime::{Runtime, peak_memory, set_eager};

pub fn run(args: BenchArgs, global: &Global) -> Result<Outcome> {
    if args.repeat == 0 || args.batch_size == Some(0) {
        return Err(usage("--repeat and --batch-size must be at least 1"));
    }
    if args.model == "pictures" {
        if global.precision.is_some() {
            return Err(usage("--precision fp8 is for models that draw, and pictures are drawn by none here"));
        }
        Runtime::foresee(global)?;
        pictures::measure(&args)?.print(args.format)?;
        return Ok(Outcome::Done);
    }
    if args.model == "study" {
        return study::run(&args, global);
    }
    if args.study.is_given() {
        return Err(usage("--photos, --styles, --weights, --profile, --set and --out are for study"));
    }
    let (rt, second) = first_and_second(global)?;
    set_eager(args.plain);
    let family = family(&args, &rt)?;
    check_precision(&args.model, family, &rt)?;
    let second = second.filter(|_| family.is_generator());
    let is_steered = !args.lora.is_empty() || args.controlnet.is_some() || args.ip_adapter.is_some();
    for (given, option) in
        [(args.strength.is_some(), "--strength is"), (is_steered, "--lora, --controlnet and --ip-adapter are")]
    {
        if given && !family.is_generator() {
            return Err(usage(format!("{option} for models that draw pictures")));
        }
    }
    let is_captioner = matches!(family.task, Task::Caption(_));
    if args.pictures.is_some() && !is_in_artfid(family) && !is_captioner {
        return Err(usage("--pictures is for artfid and captioners"));
    }
    if args.shortest_text.is_some() && !is_captioner {
        return Err(usage("--shortest-text is for captioners"));
    }
    let mut figures = measure(family, &args, &rt, second)?;
    figures.add("peak_memory_bytes", peak_memory(rt.device));
    let devices: Vec<String> = [Some(rt.device), second].into_iter().flatten().map(device_name).collect();
    figures.add("device", devices.join(","));
    figures.add("batch_size", args.batch_size.unwrap_or(1));
    figures.print(args.format)?;
    Ok(Outcome::Done)
}

fn measure(family: &Family, args: &BenchArgs, rt: &Runtime, second: Option<Device>) -> Result<Figures> {
    match &family.task {
        Task::Caption(captioner) => captioner::measure(captioner, args, rt),
        Task::Generate(generator) => generator::measure(generator, args, rt, second),
        Task::Measure(MetricNetTask { in_artfid: true, .. }) => artfid::measure(args, rt),
        Task::Measure(_) | Task::Adapt(_) => bail!("nothing is measured of a {}", family.title()),
    }
}

fn is_in_artfid(family: &Family) -> bool {
    matches!(family.task, Task::Measure(MetricNetTask { in_artfid: true, .. }))
}

fn family(args: &BenchArgs, rt: &Runtime) -> Result<&'static Family> {
    if args.model == "artfid"
        && let Some(family) = FAMILIES.iter().find(|family| is_in_artfid(family))
    {
        return Ok(family);
    }
    if let Some(entry) = MODELS.iter().find(|entry| entry.name == args.model) {
        return Ok(entry.family);
    }
    if args.random_weights {
        let names = MODELS.iter().map(|entry| entry.name).chain(["artfid", "study"]);
        let hint = nearest(&args.model, names);
        return Err(usage(format!(
            "--random-weights builds a built-in model, artfid or study, not {:?}{hint}",
            args.model
        )));
    }
    Ok(locate(&args.model, rt)?.family)
}
