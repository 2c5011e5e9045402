//! `toolkit bench`: what can be measured.

mod artfid;
mod captioner;
mod figures;
mod generator;

use anyhow::{Context, Result};

use self::figures::{Figures, device_name};
use crate::cli::{BenchArgs, Global};
use crate::error::{Outcome, nearest, usage};
use crate::models::{Family, MODELS, locate};
use crate::runtime::{Runtime, peak_memory, set_eager};

/// Something that can be measured. A new one is one row in [`TARGETS`].
struct Target {
    /// Which models it measures.
    families: &'static [Family],
    measure: fn(&BenchArgs, &Runtime) -> Result<Figures>,
}

static TARGETS: &[Target] = &[
    Target { families: &[Family::ArtInception, Family::Lpips], measure: artfid::measure },
    Target { families: &[Family::Blip], measure: captioner::measure_blip },
    Target { families: &[Family::Phi4Multimodal], measure: captioner::measure_phi4 },
    Target { families: &[Family::StableDiffusion], measure: generator::measure_sd1 },
    Target { families: &[Family::StableDiffusion3], measure: generator::measure_sd3 },
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
