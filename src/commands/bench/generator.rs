//! `toolkit bench` of generators: encoding, denoising and decoding, each by itself; from noise, or with
//! `--strength` from a photo.

use std::time::Instant;

use anyhow::{Result, anyhow};
use image::{Rgb, RgbImage};
use tch::Device;

use super::figures::{Figures, dtype_name, median, shown_once, synchronize, timed};
use super::steering::Steering;
use crate::cli::BenchArgs;
use crate::models::{GenerateRequest, GeneratorTask, PhasedGenerator, locate};
use crate::runtime::machine::process_seconds;
use crate::runtime::{DtypeChoice, FP8, Runtime};

const PROMPT: &str = "a young woman with long red hair and round glasses, oil painting, thick brush strokes, number";

/// One round to warm up, then `repeat` rounds; the medians.
///
/// `second`: a device that takes half of the guidance.
pub fn measure(family: &GeneratorTask, args: &BenchArgs, rt: &Runtime, second: Option<Device>) -> Result<Figures> {
    let (generator, load_seconds) = timed(rt.device, || {
        let mut generator = match args.random_weights {
            true => (family.random)(&args.model, rt)?,
            false => (family.load)(&locate(&args.model, rt)?.path, rt)?,
        };
        second.map_or(Ok(()), |second| generator.share_guidance(second))?;
        Ok(generator)
    })?;
    let (width, height) = generator.own_size();
    let (width, height) = (args.width.unwrap_or(width), args.height.unwrap_or(height));
    let count = args.batch_size.unwrap_or(1);
    let picture = photo(width, height);
    let steering = Steering::of(args, &picture, rt)?;
    let request = steering.put_into(GenerateRequest {
        prompts: (0..count).map(|i| format!("{PROMPT} {i}")).collect(),
        seeds: (0..count as u64).collect(),
        steps: args.steps,
        width: Some(width),
        height: Some(height),
        images: vec![picture; args.strength.map_or(0, |_| count)],
        strength: args.strength,
        ..GenerateRequest::default()
    });
    let mut figures = Figures::default();
    steering.time_merging(generator.as_ref(), args.repeat, rt.device, &mut figures)?;
    let [mut encoding, mut preparing, mut stepping, mut decoding, mut whole] = [const { Vec::new() }; 5];
    let (mut steps, mut first_picture) = (0, None);
    for number in 0..=args.repeat {
        let (done, [encode, prepare, denoise, decode]) =
            shown_once(rt.device, number, || round(generator.as_ref(), &request, rt.device))?;
        steps = done;
        if number == 0 {
            first_picture = process_seconds();
        }
        if number > 0 {
            encoding.push(encode);
            preparing.push(prepare);
            stepping.push(denoise / steps as f64);
            decoding.push(decode);
            whole.push((encode + prepare + denoise + decode) / count as f64);
        }
    }
    figures.add("seconds_per_image", median(&mut whole));
    figures.add("step_seconds", median(&mut stepping));
    figures.add("steps", steps);
    figures.add("text_encode_seconds", median(&mut encoding));
    let prepared = median(&mut preparing);
    if args.strength.is_some() {
        figures.add("photo_encode_seconds", prepared);
    }
    if steering.reads_pictures() {
        figures.add("prepare_seconds", prepared);
    }
    figures.add("vae_seconds", median(&mut decoding));
    // From the start of the process: with weights that are read, what a user waits for.
    figures.add("first_picture_seconds", first_picture);
    figures.add("load_seconds", load_seconds);
    let precision = if rt.dtype == DtypeChoice::Float8 { FP8.into() } else { dtype_name(generator.dtype()) };
    figures.add("dtype", precision);
    Ok(figures)
}

/// Denoising steps, and the seconds that texts, photos, denoising and decoding took.
fn round(generator: &dyn PhasedGenerator, request: &GenerateRequest, device: Device) -> Result<(usize, [f64; 4])> {
    let (mut seconds, mut before) = (Vec::new(), None);
    let steps = generator.draw_in_phases(request, &mut || {
        synchronize(device);
        let now = Instant::now();
        seconds.extend(before.replace(now).map(|before: Instant| (now - before).as_secs_f64()));
    })?;
    let seconds = seconds.try_into().map_err(|seconds| anyhow!("not four phases but {seconds:?}"))?;
    Ok((steps, seconds))
}

/// A picture with something in it.
fn photo(width: usize, height: usize) -> RgbImage {
    RgbImage::from_fn(width as u32, height as u32, |x, y| Rgb([x as u8, y as u8, (x / 3 + y / 5) as u8]))
}
