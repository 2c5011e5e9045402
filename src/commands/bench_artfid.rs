//! `toolkit bench artfid`: the networks of ArtFID on pictures of 224×224.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::bench::{Figures, dtype_name, median_seconds, timed};
use crate::cli::BenchArgs;
use crate::metrics::artfid::ArtFidNets;
use crate::metrics::frechet::{Gaussian, distance_with_influence};
use crate::models::{locate_inception, locate_lpips};
use crate::runtime::{self, Runtime};

/// The published comparison's size of pictures, and the size of the sets whose FID is timed.
const SIZE: u32 = 224;
const SET: i64 = 100;

pub fn measure(args: &BenchArgs, rt: &Runtime) -> Result<Figures> {
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
    let picture = |shift: u32| {
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x, y, x * y].map(|v| ((v + shift) % 256) as u8)))
    };
    let content: Vec<_> = (0..args.batch_size as u32).map(|i| picture(7 * i)).collect();
    let stylized: Vec<_> = (0..args.batch_size as u32).map(|i| picture(7 * i + 50)).collect();
    let batch = args.batch_size;
    let features = median_seconds(rt.device, args.repeat, || nets.features(&content, batch).map(drop))?;
    let lpips = median_seconds(rt.device, args.repeat, || nets.lpips(&content, &stylized, batch).map(drop))?;
    runtime::seed(0);
    let set = || Tensor::randn([SET, nets.inception.width()], (Kind::Float, tch::Device::Cpu));
    let (a, b) = (set(), set());
    let fid = median_seconds(rt.device, args.repeat, || {
        distance_with_influence(&Gaussian::fit(&a)?, &Gaussian::fit(&b)?).map(drop)
    })?;
    let mut figures = Figures::default();
    figures.add("feature_images_per_second", batch as f64 / features);
    figures.add("lpips_pairs_per_second", batch as f64 / lpips);
    figures.add("images_per_second", batch as f64 / (features + lpips));
    figures.add("fid_seconds", fid);
    figures.add("load_seconds", load_seconds);
    figures.add("dtype", dtype_name(kind));
    Ok(figures)
}
