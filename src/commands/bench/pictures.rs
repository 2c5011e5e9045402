//! `toolkit bench pictures`: what a processor core does for GPUs: pictures decoded, brought to size and written. From the
//! figures follows how many GPUs the cores of a host feed.

use std::io::Cursor;
use std::time::Instant;

use anyhow::Result;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::figures::{Figures, median};
use crate::cli::BenchArgs;
use crate::images::{self, Filter};

/// Width and height of pictures where none is asked for: what the largest generator draws.
const SIDE: usize = 1024;
/// The size that pictures are compared at.
const COMPARED: u32 = 224;
/// Grains of the photo that is measured, a side: soft shapes with some noise on them, as photos have.
const GRAINS: u32 = 48;
const NOISE: i8 = 6;

/// Something that is done to a picture, as the so-manieth time.
type Work<'a> = dyn Fn(usize) -> Result<()> + Sync + 'a;

/// Seconds of one core for one picture, and pictures a second of all cores.
pub fn measure(args: &BenchArgs) -> Result<Figures> {
    let (width, height) = (args.width.unwrap_or(SIDE) as u32, args.height.unwrap_or(SIDE) as u32);
    let photo = photo(width, height);
    let mut jpeg = Vec::new();
    photo.write_with_encoder(JpegEncoder::new_with_quality(&mut Cursor::new(&mut jpeg), 90))?;
    let folder = tempfile::tempdir()?;
    let png = folder.path().join("picture.png");
    images::save(&photo, &png)?;
    let cores = rayon::current_num_threads();
    let mut figures = Figures::default();
    figures.add("jpeg_bytes", jpeg.len());
    figures.add("png_bytes", std::fs::metadata(&png)?.len());
    figures.add("cores", cores);
    let decode = || images::decode(&jpeg).map(drop);
    let resize = || {
        images::resize(&photo, COMPARED, COMPARED, Filter::Bicubic);
        Ok(())
    };
    let read = || images::load(&png).map(drop);
    let write = |at: usize| images::save(&photo, folder.path().join(format!("{at}.png")));
    let works: [(&str, &Work); 4] =
        [("jpeg_decode", &|_| decode()), ("resize", &|_| resize()), ("png_decode", &|_| read()), ("png_write", &write)];
    for (name, work) in works {
        work(0)?;
        let mut seconds = Vec::new();
        for _ in 0..args.repeat {
            seconds.push(timed(|| work(0))?);
        }
        figures.add(&format!("{name}_seconds"), median(&mut seconds));
        let together = timed(|| (0..4 * cores).into_par_iter().try_for_each(work))?;
        figures.add(&format!("{name}_per_second"), 4.0 * cores as f64 / together);
    }
    Ok(figures)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The same every time.
fn photo(width: u32, height: u32) -> RgbImage {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let coarse = RgbImage::from_fn(GRAINS, GRAINS, |_, _| Rgb(random.random()));
    let mut photo = images::resize(&coarse, width, height, Filter::Bicubic);
    for value in photo.iter_mut() {
        *value = value.saturating_add_signed(random.random_range(-NOISE..=NOISE));
    }
    photo
}
