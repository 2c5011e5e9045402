//! `toolkit bench` of captioners: a batch of pictures, all texts of the same length.

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::figures::{Figures, dtype_name, median, median_seconds, processor_seconds, timed};
use crate::cli::BenchArgs;
use crate::error::usage;
use crate::models::captioners::blip;
use crate::models::captioners::generation::GenerationOptions;
use crate::models::captioners::phi4_multimodal::{self, prompt::PromptIds};
use crate::runtime::Runtime;

/// Size of the pictures that Phi-4 sees.
const PICTURE: (u32, u32) = (640, 480);
/// Tokens around the picture, as many as the peer's benchmark has.
const WORDS_BEFORE: usize = 4;
const WORDS_AFTER: usize = 20;

pub fn measure_blip(args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    need_random(args)?;
    let _guard = tch::no_grad_guard();
    let kind = rt.kind(Kind::Half);
    let (found, load_seconds) = timed(rt.device, || blip::Networks::published(&args.model, rt.device, kind))?;
    let (networks, config) = found;
    let side = config.vision_config.image_size;
    let pixels = Tensor::randn([args.batch_size as i64, 3, side, side], (kind, rt.device));
    let prompt = [config.text_config.bos_token_id];
    figures(args, rt, load_seconds, kind, |tokens| networks.generate(&pixels, &prompt, &endless(tokens)).map(drop))
}

pub fn measure_phi4(args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    need_random(args)?;
    let _guard = tch::no_grad_guard();
    let kind = rt.kind(Kind::BFloat16);
    let (network, load_seconds) = timed(rt.device, || phi4_multimodal::Network::random(rt))?;
    let picture =
        image::RgbImage::from_fn(PICTURE.0, PICTURE.1, |x, y| image::Rgb([x, y, x * y].map(|v| (v % 256) as u8)));
    let one = network.processor.process(&picture)?;
    let crops: Vec<_> = (0..args.batch_size).map(|_| one.on(rt.device)).collect();
    let prompt = PromptIds { before: vec![100; WORDS_BEFORE], after: vec![100; WORDS_AFTER] };
    figures(args, rt, load_seconds, kind, |tokens| {
        let embedded = network.embed(&crops, &prompt, 0, 0);
        network.generate(embedded, &endless(tokens)).map(drop)
    })
}

/// Without an end token every text has the length asked for.
fn endless(max_new_tokens: usize) -> GenerationOptions {
    GenerationOptions { max_new_tokens, ..GenerationOptions::default() }
}

fn need_random(args: &BenchArgs) -> Result<()> {
    if !args.random_weights {
        return Err(usage(
            "captioners are measured with --random-weights: with real ones the length of the texts varies",
        ));
    }
    Ok(())
}

/// Times a whole batch, and the part before its second token.
fn figures(
    args: &BenchArgs,
    rt: &Runtime,
    load_seconds: f64,
    kind: Kind,
    work: impl Fn(usize) -> Result<()>,
) -> Result<Figures> {
    let tokens = args.max_new_tokens;
    if tokens < 2 {
        bail!("--max-new-tokens must be at least 2 to measure tokens per second");
    }
    let prefill = median_seconds(rt.device, args.repeat, || work(1))?;
    let mut processor = Vec::new();
    let whole = median_seconds(rt.device, args.repeat, || {
        let before = processor_seconds();
        work(tokens)?;
        processor.push(processor_seconds() - before);
        Ok(())
    })?;
    let batch = args.batch_size as f64;
    let mut figures = Figures::default();
    figures.add("images_per_second", batch / whole);
    figures.add("new_tokens", tokens);
    figures.add("tokens_per_second", batch * (tokens - 1) as f64 / (whole - prefill));
    figures.add("prefill_seconds", prefill);
    if rt.device == Device::Cpu {
        // Without the warm-up. Other work on the machine disturbs this less than the clock.
        figures.add("processor_seconds", median(&mut processor[1..]));
    }
    figures.add("load_seconds", load_seconds);
    figures.add("dtype", dtype_name(kind));
    Ok(figures)
}
