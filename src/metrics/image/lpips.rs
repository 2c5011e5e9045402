//! LPIPS between content pictures and what was made of them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use tch::{Device, Kind, Tensor, no_grad};

use super::features::on_device;
use super::pictures::{Batch, Batches, pixels};
use super::{ImageScorer, PictureMetric, PictureSet};
use crate::checkpoints::{Checkpoint, Weights};
use crate::metrics::{About, Metric, Show, Value};
use crate::models::metric_nets::alexnet::Lpips;
use crate::nn;
use crate::runtime::{Background, with_chosen_tf32};

/// The metric's name.
pub const NAME: &str = "lpips";

/// The mean LPIPS distance of the pictures of a strategy from their photos.
#[derive(Debug)]
pub struct PhotoDistance;

pub static ABOUT: About = About {
    name: NAME,
    label: "LPIPS",
    axis: "LPIPS (distance from the photo)",
    help: "distance from the photos; lower is better",
    compares: "each picture with its photo",
    higher_is_better: false,
    needs: &["lpips-alex"],
    item: Some("Distance of each picture from its photo; lower keeps more of it."),
    interval: true,
    show: Show::Table,
    by_default: true,
    width: 9,
};

impl Metric for PhotoDistance {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn of_pictures(&self) -> Option<&dyn PictureMetric> {
        Some(self)
    }
}

impl PictureMetric for PhotoDistance {
    fn of_items(
        &self,
        scorer: &dyn ImageScorer,
        photos: &[RgbImage],
        pictures: &[RgbImage],
    ) -> Option<Result<Vec<f64>>> {
        Some(scorer.lpips(photos, pictures))
    }

    fn of_set(&self, pictures: &PictureSet) -> Result<Value> {
        let scores = pictures.artfid()?;
        Ok(Value::new(scores.lpips, scores.intervals.map(|intervals| intervals.lpips)))
    }
}

/// Has libtorch load what AlexNet computes with on a GPU, in the background: a tenth of a second in which the GPU would wait
/// for the first pairs, here so many of this width and height at a time. On the CPU there is nothing to load.
pub fn warm_up(device: Device, kind: Kind, pairs: usize, (width, height): (u32, u32)) -> Option<Background> {
    let pictures = [2 * pairs as i64, 3, height.into(), width.into()];
    let measure = move || -> Result<Tensor> {
        let net = LpipsNet::random(device, kind)?;
        let black = Tensor::f_zeros(pictures, (kind, device))?;
        with_chosen_tf32(|| net.net.forward_joined(&black, pairs as i64))
    };
    nn::warm_up(device, move || drop(measure()))
}

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
        Weights::build_of(&[&trunk, &heads], || Self::new(&trunk, &heads))
            .with_context(|| format!("LPIPS from {} and {}", backbone.display(), linear.display()))
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
                let (content, stylized) = (pixels(content)?, pixels(stylized)?);
                with_chosen_tf32(|| no_grad(|| self.net.forward(&content, &stylized)))
            })
            .collect::<Result<Vec<_>>>()?;
        numbers(&parts)
    }

    /// The same of the files of pairs, decoded while the device works.
    pub fn distances_of_files(&self, pairs: Batches) -> Result<Vec<f64>> {
        numbers(&pairs.map(|batch| self.of_batch(&batch?)).collect::<Result<Vec<_>>>()?)
    }

    /// The same as float32 `[pairs]` on the device, for which this does not wait.
    pub fn distances_of_batches(&self, pairs: Batches) -> Result<Tensor> {
        on_device(&pairs.map(|batch| self.of_batch(&batch?)).collect::<Result<Vec<_>>>()?)
    }

    /// [pairs] of float32 on the device.
    pub(super) fn of_batch(&self, batch: &Batch) -> Result<Tensor> {
        with_chosen_tf32(|| no_grad(|| self.net.forward_joined(&batch.pixels, batch.count)))
    }
}

/// The values of all batches (see [`super::artfid::ArtFidNets::measure_files`]), read from the device once.
pub fn numbers(parts: &[Tensor]) -> Result<Vec<f64>> {
    if parts.is_empty() {
        bail!("no pictures to measure");
    }
    let values = Vec::<f64>::try_from(Tensor::cat(parts, 0).to_device(Device::Cpu).to_kind(Kind::Double))?;
    let finite = values.iter().all(|value| value.is_finite());
    ensure!(finite, "LPIPS is not a finite number: are the weights damaged, or is float16 too narrow?");
    Ok(values)
}
