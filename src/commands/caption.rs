//! `toolkit caption`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::Serialize;
use tch::Device;

use super::print::{self, say};
use crate::cli::{CaptionArgs, Format, Global};
use crate::error::{Outcome, usage};
use crate::images;
use crate::models::{CaptionOptions, Captioner, check_captions, load_captioner};
use crate::pipelines::describe;
use crate::runtime::{Runtime, free_memory, log_peak_memory, one_line, wait_asleep};

/// One line of the result.
#[derive(Debug, Serialize)]
struct Row {
    image: String,
    caption: String,
    /// New tokens, the end token included.
    tokens: usize,
}

/// Device memory that one more picture of a batch may take: its crops on their way through the
/// largest vision tower, and its keys and values.
const BYTES_PER_PICTURE: u64 = 3 << 29;
const LARGEST_BATCH: u64 = 64;
/// On the CPU larger batches gain nothing.
const CPU_BATCH: usize = 4;

pub fn run(args: CaptionArgs, global: &Global) -> Result<Outcome> {
    for (name, value) in [
        ("--num-beams", Some(args.num_beams)),
        ("--batch-size", args.batch_size),
        ("--max-new-tokens", args.max_new_tokens),
    ] {
        if value == Some(0) {
            return Err(usage(format!("{name} must be at least 1")));
        }
    }
    wait_asleep();
    // Pictures are looked at on as many threads as are asked for.
    Runtime::foresee(global)?;
    let files = files(&args.images)?;
    let readable = readable(&files);
    if readable.is_empty() {
        bail!("none of the {} pictures could be described", files.len());
    }
    let rt = Runtime::new(global)?;
    let options =
        CaptionOptions { prompt: args.prompt.clone(), max_new_tokens: args.max_new_tokens, num_beams: args.num_beams };
    check_captions(&args.model, &options, &rt)?;
    let captioner = load_captioner(&args.model, &rt)?;
    let batch_size = args.batch_size.unwrap_or_else(|| batch_size(rt.device));
    let mut rows = Vec::new();
    // Decoding goes on on all cores, two batches ahead, while the device works.
    let mut pictures = images::stream(readable, 2 * batch_size);
    loop {
        let batch: Vec<_> = pictures.by_ref().take(batch_size).collect();
        if batch.is_empty() {
            break;
        }
        let new = caption_batch(captioner.as_ref(), batch, &options);
        if args.format == Format::Text {
            new.iter().try_for_each(|row| print_line(row, files.len() > 1))?;
        }
        rows.extend(new);
    }
    log_peak_memory(rt.device);
    print(&rows, args.format)?;
    match files.len() - rows.len() {
        0 => Ok(Outcome::Done),
        _ if rows.is_empty() => bail!("none of the {} pictures could be described", files.len()),
        _ => Ok(Outcome::SomeFailed),
    }
}

/// The pictures that are asked for: of a folder each one in it, in the order of `DIR/*`.
fn files(asked: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in asked {
        if path.is_dir() {
            files.extend(images::list(path).map_err(|error| usage(format!("{error:#}")))?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// The files that are pictures by their headers; of the others a line says why, before a model is loaded. Pipes are not
/// looked at: what is read from them is gone.
fn readable(files: &[PathBuf]) -> Vec<PathBuf> {
    let look = |file: &PathBuf| {
        let is_special = file.metadata().is_ok_and(|found| !found.is_file());
        if is_special { Ok(()) } else { images::probe(file).map(drop) }
    };
    let looked: Vec<Result<()>> = files.par_iter().map(look).collect();
    let good = |(file, found): (&PathBuf, Result<()>)| match found {
        Ok(()) => Some(file.clone()),
        // The error names the file.
        Err(error) => {
            tracing::error!("{}", one_line(&error));
            None
        }
    };
    files.iter().zip(looked).filter_map(good).collect()
}

/// The pictures that could be described, in their order; of the others a line says why.
fn caption_batch(
    captioner: &dyn Captioner,
    batch: Vec<(PathBuf, Result<image::RgbImage>)>,
    options: &CaptionOptions,
) -> Vec<Row> {
    let (mut paths, mut pictures) = (Vec::new(), Vec::new());
    for (path, decoded) in batch {
        match decoded {
            Ok(picture) => {
                paths.push(path);
                pictures.push(picture);
            }
            // The error names the file.
            Err(error) => tracing::error!("{}", one_line(&error)),
        }
    }
    let mut rows = Vec::new();
    for (path, caption) in paths.iter().zip(describe(captioner, &pictures, options)) {
        match caption {
            Ok(caption) => {
                rows.push(Row { image: images::path_text(path), caption: caption.text, tokens: caption.tokens });
            }
            Err(error) => tracing::error!("{}: {}", path.display(), one_line(&error)),
        }
    }
    rows
}

fn print_line(row: &Row, is_one_of_several: bool) -> Result<()> {
    if is_one_of_several {
        say!("{}: {}", row.image, row.caption);
    } else {
        say!("{}", row.caption);
    }
    Ok(())
}

fn print(rows: &[Row], format: Format) -> Result<()> {
    match format {
        // Already there, line by line.
        Format::Text => {}
        Format::Json => say!("{}", serde_json::to_string_pretty(rows)?),
        Format::Csv => print::table(|table| rows.iter().try_for_each(|row| table.serialize(row)))?,
    }
    Ok(())
}

/// What fits into the memory that the loaded model leaves free.
fn batch_size(device: Device) -> usize {
    match device {
        Device::Cuda(_) => {
            free_memory(device).map_or(1, |free| (free / BYTES_PER_PICTURE).clamp(1, LARGEST_BATCH) as usize)
        }
        _ => CPU_BATCH,
    }
}
