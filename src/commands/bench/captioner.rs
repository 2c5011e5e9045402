//! `toolkit bench` of captioners: a batch of pictures, all texts of the same length.

use anyhow::{Result, bail};
use tch::Device;

use super::figures::{Figures, dtype_name, median, median_seconds, processor_seconds, timed};
use crate::cli::BenchArgs;
use crate::error::usage;
use crate::models::CaptionerTask;
use crate::runtime::Runtime;

/// Times a whole batch, and the part before its second token.
pub fn measure(family: &CaptionerTask, args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    if !args.random_weights {
        return Err(usage(
            "captioners are measured with --random-weights: with real ones the length of the texts varies",
        ));
    }
    let _guard = tch::no_grad_guard();
    let (captioner, load_seconds) = timed(rt.device, || (family.random)(&args.model, rt))?;
    let work = captioner.batch(args.batch_size)?;
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
    figures.add("dtype", dtype_name(captioner.dtype()));
    Ok(figures)
}
