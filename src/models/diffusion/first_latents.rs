//! What a drawing starts from: noise, and the latents of photos.

use anyhow::Result;
use image::RgbImage;
use tch::{Kind, Tensor};

use super::autoencoder_kl::AutoencoderKl;
use crate::images::{self, Filter};
use crate::runtime::NoiseGenerator;

/// The first `count` draws of each picture's own generator, in the number type `kind`; `shape` is that of one picture's latents
/// `[1, channels, height, width]`. Each draw `[pictures, channels, height, width]`, on the CPU.
///
/// # Errors
/// When libtorch fails.
pub fn first_draws(seeds: &[u64], count: usize, shape: &[i64; 4], kind: Kind) -> Result<Vec<Tensor>> {
    let draw = |&seed: &u64| {
        let mut generator = NoiseGenerator::new(seed)?;
        (0..count).map(|_| generator.normal(shape, kind)).collect()
    };
    let pictures: Vec<Vec<Tensor>> = seeds.iter().map(draw).collect::<Result<_>>()?;
    let of_all = |at: usize| Tensor::cat(&pictures.iter().map(|draws| &draws[at]).collect::<Vec<_>>(), 0);
    Ok((0..count).map(of_all).collect())
}

/// The latents of photos that are brought to (width, height) pixels: drawn by `draws` `[photos, channels, height, width]`, of
/// the same size, and in their number type and on their device. The autoencoder computes in `kind`.
///
/// # Errors
/// When a photo cannot be laid out.
pub fn encode_photos(
    (vae, kind): (&AutoencoderKl, Kind),
    photos: &[RgbImage],
    (width, height): (i64, i64),
    draws: &Tensor,
) -> Result<Tensor> {
    let device = draws.device();
    let at_a_time = vae.photos_at_a_time(width * height) as usize;
    let mut encoded = Vec::new();
    for (photos, draws) in photos.chunks(at_a_time).zip(draws.split(at_a_time as i64, 0)) {
        let resize = |photo| images::resize(photo, width as u32, height as u32, Filter::Lanczos);
        let photos: Vec<RgbImage> = photos.iter().map(resize).collect();
        let pixels = images::batch_tensor(&photos)?.to_device(device).to_kind(Kind::Float);
        let pixels = (pixels / 255.0 * 2.0 - 1.0).to_kind(kind);
        let latents = vae.encode(&pixels).sample(&draws.to_kind(kind));
        encoded.push(vae.scale(&latents).to_kind(draws.kind()));
    }
    Ok(Tensor::cat(&encoded, 0))
}
