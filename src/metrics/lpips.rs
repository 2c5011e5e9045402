//! LPIPS between content pictures and what was made of them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use tch::{Device, Kind, Tensor, no_grad};

use super::pictures::{OneSize, Pair, pixels};
use crate::checkpoints::{Checkpoint, Weights};
use crate::models::alexnet::{Lpips, MIN_SIZE};

/// LPIPS on AlexNet, on a device.
pub struct LpipsNet {
    net: Lpips,
    pub(super) device: Device,
    pub(super) kind: Kind,
}

impl LpipsNet {
    /// From the files of the trunk and of the linear heads, which may be the same file.
    pub fn load(backbone: &Path, linear: &Path, device: Device, kind: Kind) -> Result<Self> {
        let open = |file: &Path| anyhow::Ok(Checkpoint::open(&[file])?.weights(device, kind));
        let trunk = open(backbone)?;
        let heads = if linear == backbone { trunk.clone() } else { open(linear)? };
        let net = Self::new(&trunk, &heads)
            .with_context(|| format!("LPIPS from {} and {}", backbone.display(), linear.display()))?;
        trunk.finish()?;
        heads.finish()?;
        Ok(net)
    }

    /// At the published size with random weights.
    pub fn random(device: Device, kind: Kind) -> Result<Self> {
        let weights = Weights::random(device, kind);
        Self::new(&weights, &weights)
    }

    fn new(trunk: &Weights, heads: &Weights) -> Result<Self> {
        Ok(Self { net: no_grad(|| Lpips::new(trunk, heads))?, device: trunk.device(), kind: trunk.kind() })
    }

    /// LPIPS of each pair of pictures; the two of a pair, and all of a batch, are of one size.
    pub fn distances(&self, content: &[RgbImage], stylized: &[RgbImage], batch: usize) -> Result<Vec<f64>> {
        if content.len() != stylized.len() {
            bail!("{} content and {} stylized pictures: LPIPS compares pairs", content.len(), stylized.len());
        }
        let batch = batch.max(1);
        let parts = content
            .chunks(batch)
            .zip(stylized.chunks(batch))
            .map(|(content, stylized)| {
                let pixels = |pictures| pixels(pictures, self.device, self.kind);
                self.of_pixels(&pixels(content)?, &pixels(stylized)?)
            })
            .collect::<Result<Vec<_>>>()?;
        numbers(&parts)
    }

    /// The same of picture files, decoded while the device works.
    pub fn distances_of_files(&self, pairs: &[Pair], batch: usize) -> Result<Vec<f64>> {
        let batch = batch.max(1);
        let mut pictures = PairStream::new(pairs, batch, MIN_SIZE);
        let mut parts = Vec::new();
        loop {
            let (content, stylized) = pictures.next_batch(batch)?;
            if content.is_empty() {
                return numbers(&parts);
            }
            let pixels = |pictures: &[RgbImage]| pixels(pictures, self.device, self.kind);
            parts.push(self.of_pixels(&pixels(&content)?, &pixels(&stylized)?)?);
        }
    }

    /// [pairs] of float32 on the device.
    pub(super) fn of_pixels(&self, content: &Tensor, stylized: &Tensor) -> Result<Tensor> {
        no_grad(|| self.net.forward(content, stylized))
    }
}

/// Pairs of pictures, decoded ahead.
pub(super) struct PairStream(OneSize);

impl PairStream {
    pub(super) fn new(pairs: &[Pair], batch: usize, least: u32) -> Self {
        let files = pairs.iter().flat_map(|pair| [pair.content.clone(), pair.stylized.clone()]).collect();
        Self(OneSize::new(files, 2 * batch, least))
    }

    /// Content and stylized pictures of the next pairs, at most `batch`; none at the end.
    pub(super) fn next_batch(&mut self, batch: usize) -> Result<(Vec<RgbImage>, Vec<RgbImage>)> {
        let mut pictures = self.0.next_batch(2 * batch)?.into_iter();
        let (mut content, mut stylized) = (Vec::new(), Vec::new());
        while let (Some(first), Some(second)) = (pictures.next(), pictures.next()) {
            content.push(first);
            stylized.push(second);
        }
        Ok((content, stylized))
    }
}

/// The values of all batches, read from the device once.
pub(super) fn numbers(parts: &[Tensor]) -> Result<Vec<f64>> {
    if parts.is_empty() {
        bail!("no pictures to measure");
    }
    let values = Vec::<f64>::try_from(Tensor::cat(parts, 0).to_device(Device::Cpu).to_kind(Kind::Double))?;
    let finite = values.iter().all(|value| value.is_finite());
    ensure!(finite, "LPIPS is not a finite number: are the weights damaged, or is float16 too narrow?");
    Ok(values)
}
