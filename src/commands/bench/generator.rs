//! `toolkit bench sd-v1-5` and `sd3-medium`: encoding, denoising and decoding, each by itself; from noise, or with
//! `--strength` from a photo.

use anyhow::Result;
use image::{Rgb, RgbImage};
use tch::{Device, Tensor};

use super::figures::{Figures, dtype_name, median, shown_once, timed};
use crate::cli::BenchArgs;
use crate::models::diffusion::stable_diffusion::{self, StableDiffusion};
use crate::models::diffusion::stable_diffusion_3::{self, StableDiffusion3};
use crate::models::{GenerateRequest, locate};
use crate::runtime::Runtime;
use crate::runtime::machine::process_seconds;

const PROMPT: &str = "a young woman with long red hair and round glasses, oil painting, thick brush strokes, number";

/// A pipeline whose phases can be timed.
trait Phases {
    type Job;
    /// Width and height in pixels.
    fn default_size(&self) -> (i64, i64);
    fn forget_prompts(&self);
    fn encode(&self, texts: &[String]) -> Result<()>;
    fn prepare(&self, request: &GenerateRequest) -> Result<Self::Job>;
    fn steps(job: &Self::Job) -> usize;
    fn denoise(&self, job: Self::Job) -> Result<Tensor>;
    /// Pictures as bytes on the device.
    fn decode(&self, latents: &Tensor) -> Result<Tensor>;
}

impl Phases for StableDiffusion {
    type Job = stable_diffusion::Job;

    fn default_size(&self) -> (i64, i64) {
        let (height, width) = self.default_size();
        (width, height)
    }

    fn forget_prompts(&self) {
        self.forget_prompts();
    }

    fn encode(&self, texts: &[String]) -> Result<()> {
        self.encode(texts).map(drop)
    }

    fn prepare(&self, request: &GenerateRequest) -> Result<Self::Job> {
        self.prepare(request)
    }

    fn steps(job: &Self::Job) -> usize {
        job.steps()
    }

    fn denoise(&self, job: Self::Job) -> Result<Tensor> {
        self.denoise(job)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(self.decode(latents).0)
    }
}

impl Phases for StableDiffusion3 {
    type Job = stable_diffusion_3::Job;

    fn default_size(&self) -> (i64, i64) {
        (self.default_size(), self.default_size())
    }

    fn forget_prompts(&self) {
        self.forget_prompts();
    }

    fn encode(&self, texts: &[String]) -> Result<()> {
        self.encode(texts).map(drop)
    }

    fn prepare(&self, request: &GenerateRequest) -> Result<Self::Job> {
        self.prepare(request)
    }

    fn steps(job: &Self::Job) -> usize {
        job.steps()
    }

    fn denoise(&self, job: Self::Job) -> Result<Tensor> {
        self.denoise(&job)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(self.decode(latents)?.0)
    }
}

pub fn measure_sd1(args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    let (pipeline, load_seconds) = timed(rt.device, || match args.random_weights {
        true => StableDiffusion::random(rt),
        false => StableDiffusion::load(&locate(&args.model, rt)?.path, rt),
    })?;
    let mut figures = tch::no_grad(|| measure(&pipeline, args, rt))?;
    figures.add("load_seconds", load_seconds);
    figures.add("dtype", dtype_name(pipeline.kind()));
    Ok(figures)
}

pub fn measure_sd3(args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    let (pipeline, load_seconds) = timed(rt.device, || match args.random_weights {
        true => StableDiffusion3::random(rt),
        false => StableDiffusion3::load(&locate(&args.model, rt)?.path, rt),
    })?;
    let mut figures = tch::no_grad(|| measure(&pipeline, args, rt))?;
    figures.add("load_seconds", load_seconds);
    figures.add("dtype", dtype_name(pipeline.kind()));
    Ok(figures)
}

/// One round to warm up, then `repeat` rounds; the medians.
fn measure<P: Phases>(pipeline: &P, args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    let (width, height) = pipeline.default_size();
    let (width, height) = (args.width.unwrap_or(width as usize), args.height.unwrap_or(height as usize));
    let count = args.batch_size;
    let request = GenerateRequest {
        prompts: (0..count).map(|i| format!("{PROMPT} {i}")).collect(),
        seeds: (0..count as u64).collect(),
        steps: args.steps,
        width: Some(width),
        height: Some(height),
        images: vec![photo(width, height); args.strength.map_or(0, |_| count)],
        strength: args.strength,
        ..GenerateRequest::default()
    };
    let texts: Vec<String> = [vec![String::new()], request.prompts.clone()].concat();
    let [mut encoding, mut preparing, mut stepping, mut decoding, mut whole] = [const { Vec::new() }; 5];
    let (mut steps, mut first_picture) = (0, None);
    for number in 0..=args.repeat {
        let (done, [encode, prepare, denoise, decode]) =
            shown_once(rt.device, number, || round(pipeline, &request, &texts, rt.device))?;
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
    let mut figures = Figures::default();
    figures.add("seconds_per_image", median(&mut whole));
    figures.add("step_seconds", median(&mut stepping));
    figures.add("steps", steps);
    figures.add("text_encode_seconds", median(&mut encoding));
    if args.strength.is_some() {
        figures.add("photo_encode_seconds", median(&mut preparing));
    }
    figures.add("vae_seconds", median(&mut decoding));
    // From the start of the process: with weights that are read, what a user waits for.
    figures.add("first_picture_seconds", first_picture);
    Ok(figures)
}

/// Denoising steps, and the seconds that texts, photos, denoising and decoding took.
fn round<P: Phases>(
    pipeline: &P,
    request: &GenerateRequest,
    texts: &[String],
    device: Device,
) -> Result<(usize, [f64; 4])> {
    pipeline.forget_prompts();
    let (_, encode) = timed(device, || pipeline.encode(texts))?;
    let (job, prepare) = timed(device, || pipeline.prepare(request))?;
    let steps = P::steps(&job);
    let (latents, denoise) = timed(device, || pipeline.denoise(job))?;
    let (_, decode) = timed(device, || pipeline.decode(&latents)?.f_to_device(Device::Cpu).map_err(Into::into))?;
    Ok((steps, [encode, prepare, denoise, decode]))
}

/// A picture with something in it.
fn photo(width: usize, height: usize) -> RgbImage {
    RgbImage::from_fn(width as u32, height as u32, |x, y| Rgb([x as u8, y as u8, (x / 3 + y / 5) as u8]))
}
