//! `toolkit bench artfid`: the networks of ArtFID on pictures of 224×224, and with `--pictures` a whole evaluation.

use std::fs;

use anyhow::Result;
use image::{Rgb, RgbImage};
use rayon::prelude::*;
use tch::Kind;

use super::figures::{Figures, dtype_name, median_seconds, timed};
use crate::cli::BenchArgs;
use crate::error::usage;
use crate::images;
use crate::metrics::image::artfid::{self, ArtFidNets, Mode, ScoreOptions};
use crate::metrics::image::frechet::{Gaussian, distance_with_influence};
use crate::metrics::image::lpips::numbers;
use crate::metrics::image::pictures::{Decoding, pairs};
use crate::models::metric_nets::inception::MIN_SIZE;
use crate::models::{locate_inception, locate_lpips};
use crate::runtime::{NoiseGenerator, Runtime};

/// The published comparison's size of pictures, and the size of the sets whose FID is timed.
const SIZE: u32 = 224;
const SET: i64 = 100;

pub fn measure(args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
    if args.pictures.is_some_and(|count| count < 2) {
        return Err(usage("--pictures must be at least 2: one picture has no spread"));
    }
    let kind = rt.kind(Kind::Float);
    let (nets, load_seconds) = timed(rt.device, || {
        if args.random_weights {
            return ArtFidNets::random(rt.device, kind);
        }
        let (inception, lpips) =
            (locate_inception("art-inception", rt)?, locate_lpips("lpips-alex", "lpips-alex", rt)?);
        ArtFidNets::load(&inception, &lpips.backbone, &lpips.linear, rt.device, kind)
    })?;
    let (width, height) = (args.width.unwrap_or(SIZE as usize) as u32, args.height.unwrap_or(SIZE as usize) as u32);
    let batch = args.batch_size.unwrap_or(1);
    let batch_of = |shift: u32| (0..batch as u32).map(|i| picture(width, height, 7 * i + shift)).collect();
    let (content, stylized): (Vec<RgbImage>, Vec<RgbImage>) = (batch_of(0), batch_of(50));
    let features = median_seconds(rt.device, args.repeat, || nets.features(&content, batch).map(drop))?;
    let lpips = median_seconds(rt.device, args.repeat, || nets.lpips(&content, &stylized, batch).map(drop))?;
    let mut generator = NoiseGenerator::new(0)?;
    let mut set = || generator.normal(&[SET, nets.inception.width()], Kind::Float);
    let (a, b) = (set()?, set()?);
    let fid = median_seconds(rt.device, args.repeat, || {
        distance_with_influence(&Gaussian::fit(&a)?, &Gaussian::fit(&b)?).map(drop)
    })?;
    let mut figures = Figures::default();
    figures.add("feature_images_per_second", batch as f64 / features);
    figures.add("lpips_pairs_per_second", batch as f64 / lpips);
    figures.add("images_per_second", batch as f64 / (features + lpips));
    figures.add("fid_seconds", fid);
    if let Some(count) = args.pictures {
        figures.add("pictures", count);
        figures.add("evaluate_seconds", evaluate_seconds(&nets, count, rt)?);
    }
    figures.add("load_seconds", load_seconds);
    figures.add("dtype", dtype_name(kind));
    Ok(figures)
}

/// ArtFID of three folders as `evaluate artfid` finds it: seconds from listing the files to the score, networks loaded.
fn evaluate_seconds(nets: &ArtFidNets, count: usize, rt: &Runtime) -> Result<f64> {
    let scratch = tempfile::tempdir()?;
    let [content, style, stylized] = ["content", "style", "stylized"].map(|name| scratch.path().join(name));
    for (shift, folder) in [&content, &style, &stylized].into_iter().enumerate() {
        fs::create_dir(folder)?;
        (0..count).into_par_iter().try_for_each(|i| {
            picture(SIZE, SIZE, (3 * i + 50 * shift) as u32).save(folder.join(format!("{i:06}.jpg")))
        })?;
    }
    let options = ScoreOptions { mode: Mode::ArtFid, ..ScoreOptions::default() };
    let (_, seconds) = timed(rt.device, || {
        let for_gpu = rt.device.is_cuda();
        let pairs = Decoding::pairs(&pairs(&content, &stylized)?, MIN_SIZE, None, for_gpu);
        let style = Decoding::files(images::list(&style)?, MIN_SIZE, None, for_gpu);
        let batches = |files: Decoding| files.batches(None, rt.device, rt.kind(Kind::Float));
        let (stylized, lpips) = nets.measure_files(batches(pairs))?;
        let style = nets.inception.features_of_files(batches(style))?;
        artfid::score(&style, &stylized, &numbers(&[lpips])?, &options)
    })?;
    Ok(seconds)
}

/// Stripes, no two alike.
fn picture(width: u32, height: u32, shift: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([x, y, x * y].map(|v| ((v + shift) % 256) as u8)))
}
