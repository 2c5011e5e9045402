//! `toolkit bench` of captioners: a batch of pictures, all texts of the same length; with `--pictures` a folder of JPEGs.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use image::RgbImage;
use tch::Device;

use super::figures::{Figures, dtype_name, median, median_seconds, processor_seconds, timed};
use super::photos;
use crate::cli::BenchArgs;
use crate::commands::caption::batch_size;
use crate::error::usage;
use crate::images;
use crate::models::{CaptionerTask, MeasuredCaptioner, preprocessed};
use crate::runtime::Runtime;
use crate::runtime::machine::process_seconds;

/// Of a caption where nothing else is asked for.
const NEW_TOKENS: usize = 20;

/// Times a whole batch, and the part before its second token.
pub fn measure(family: &CaptionerTask, args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    if !args.random_weights {
        return Err(usage(
            "captioners are measured with --random-weights: with real ones the length of the texts varies",
        ));
    }
    let tokens = args.max_new_tokens.unwrap_or(NEW_TOKENS);
    if tokens < 2 {
        bail!("--max-new-tokens must be at least 2 to measure tokens per second");
    }
    if args.shortest_text.is_some_and(|shortest| shortest == 0 || shortest > tokens || args.pictures.is_none()) {
        return Err(usage("--shortest-text is for --pictures, from 1 to --max-new-tokens"));
    }
    let _guard = tch::no_grad_guard();
    let mut figures = Figures::default();
    // First, so that the clock of the process has nothing else in it.
    let scratch = tempfile::tempdir()?;
    let written = Instant::now();
    if let Some(count) = args.pictures {
        photos::write(scratch.path(), count)?;
    }
    let written = written.elapsed().as_secs_f64();
    let (captioner, load_seconds) = timed(rt.device, || (family.random)(&args.model, rt))?;
    if let Some(count) = args.pictures {
        let shortest = args.shortest_text.unwrap_or(tokens);
        let describe = || describe_files(captioner.as_ref(), scratch.path(), (shortest, tokens), rt.device);
        let (_, seconds) = timed(rt.device, describe)?;
        figures.add("pictures", count);
        figures.add("captions_seconds", seconds);
        figures.add("captions_per_second", count as f64 / seconds);
        figures.add("whole_seconds", process_seconds().map(|whole| whole - written));
    }
    let size = args.batch_size.unwrap_or(1);
    let work = captioner.batch(size)?;
    let prefill = median_seconds(rt.device, args.repeat, || work(1))?;
    let mut processor = Vec::new();
    let whole = median_seconds(rt.device, args.repeat, || {
        let before = processor_seconds();
        work(tokens)?;
        processor.push(processor_seconds() - before);
        Ok(())
    })?;
    let batch = size as f64;
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

/// Describes the pictures of a folder as `toolkit caption` does: in its batches, decoded ahead.
fn describe_files(
    captioner: &dyn MeasuredCaptioner,
    folder: &Path,
    (shortest, longest): (usize, usize),
    device: Device,
) -> Result<()> {
    let files = images::list(folder)?;
    // Every length equally often, long and short ones mixed.
    let new_tokens = |at: usize| shortest + at * 7919 % (longest + 1 - shortest);
    let size = batch_size(device, files.len());
    let preprocess = captioner.preprocess();
    let mut decoded =
        images::stream_with(files, 2 * size, move |file| preprocessed(images::load(file)?, preprocess.as_ref()));
    let mut at = 0;
    loop {
        let batch: Vec<RgbImage> = decoded.by_ref().take(size).map(|(_, picture)| picture).collect::<Result<_>>()?;
        if batch.is_empty() {
            return Ok(());
        }
        let new_tokens: Vec<usize> = (at..at + batch.len()).map(new_tokens).collect();
        at += batch.len();
        captioner.describe(&batch, &new_tokens)?;
    }
}
