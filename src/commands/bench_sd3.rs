//! `toolkit bench sd3-medium`: encoding, denoising and decoding, each by itself.

use anyhow::Result;

use super::bench::{Figures, dtype_name, median, timed};
use crate::cli::BenchArgs;
use crate::models::stable_diffusion_3::StableDiffusion3;
use crate::models::{GenerateRequest, locate};
use crate::runtime::Runtime;

const PROMPT: &str = "a young woman with long red hair and round glasses, oil painting, thick brush strokes, number";

pub fn measure(args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    let (pipeline, load_seconds) = timed(rt.device, || match args.random_weights {
        true => StableDiffusion3::random(rt),
        false => StableDiffusion3::load(&locate(&args.model, rt)?.path, rt),
    })?;
    let request = GenerateRequest {
        prompts: (0..args.batch_size).map(|i| format!("{PROMPT} {i}")).collect(),
        seeds: (0..args.batch_size as u64).collect(),
        steps: args.steps,
        width: args.width,
        height: args.height,
        ..GenerateRequest::default()
    };
    let mut figures = tch::no_grad(|| phases(&pipeline, &request, args, rt))?;
    figures.add("load_seconds", load_seconds);
    figures.add("dtype", dtype_name(pipeline.kind()));
    Ok(figures)
}

/// One round to warm up, then `repeat` rounds; the medians.
fn phases(pipeline: &StableDiffusion3, request: &GenerateRequest, args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    let texts: Vec<String> = [vec![String::new()], request.prompts.clone()].concat();
    let [mut encoding, mut stepping, mut decoding, mut whole] = [const { Vec::new() }; 4];
    for round in 0..=args.repeat {
        pipeline.forget_prompts();
        let (_, encode) = timed(rt.device, || pipeline.encode(&texts))?;
        let (job, prepare) = timed(rt.device, || pipeline.prepare(request))?;
        let (latents, denoise) = timed(rt.device, || pipeline.denoise(&job))?;
        let (_, decode) =
            timed(rt.device, || pipeline.decode(&latents)?.0.f_to_device(tch::Device::Cpu).map_err(Into::into))?;
        if round > 0 {
            encoding.push(encode);
            stepping.push(denoise / job.steps() as f64);
            decoding.push(decode);
            whole.push((encode + prepare + denoise + decode) / request.prompts.len() as f64);
        }
    }
    let mut figures = Figures::default();
    figures.add("seconds_per_image", median(&mut whole));
    figures.add("step_seconds", median(&mut stepping));
    figures.add("text_encode_seconds", median(&mut encoding));
    figures.add("vae_seconds", median(&mut decoding));
    Ok(figures)
}
