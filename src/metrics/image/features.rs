//! Pictures → features of a network.

use std::path::Path;

use anyhow::{Context, Result, bail};
use image::RgbImage;
use tch::{Device, Kind, Tensor, no_grad};

use super::networks::Network;
use super::pictures::{Batches, pixels};
use crate::checkpoints::{Checkpoint, Weights};
use crate::models::metric_nets::inception::{Inception, Variant};
use crate::models::{locate_inception, locate_inception_v3};
use crate::nn::conv_relu;
use crate::runtime::{Background, Runtime, catch_panics};

/// A network that describes pictures by features, on a device.
pub struct FeatureNet {
    net: Inception,
    device: Device,
    kind: Kind,
}

impl FeatureNet {
    /// A network by the name, the folder or the file of its weights (none: the published ones).
    pub fn open(network: Network, name: Option<&str>, rt: &Runtime) -> Result<Self> {
        let name = name.unwrap_or(network.model());
        let (device, kind) = (rt.device, rt.kind(Kind::Float));
        match network {
            Network::ArtInception => Self::load(&locate_inception(name, rt)?, device, kind),
            Network::InceptionV3 => Self::load_as(Variant::Fid, &locate_inception_v3(name, rt)?, device, kind),
        }
    }

    /// art-Inception from a checkpoint file (safetensors or a PyTorch pickle).
    pub fn load(file: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_as(Variant::Art, file, device, kind)
    }

    fn load_as(variant: Variant, file: &Path, device: Device, kind: Kind) -> Result<Self> {
        let weights = Checkpoint::open(&[file])?.weights(device, kind);
        let net = weights.build(|weights| Self::new(weights, variant));
        net.with_context(|| format!("{} from {}", variant.title(), file.display()))
    }

    /// art-Inception at the published size with random weights.
    pub fn random(device: Device, kind: Kind) -> Result<Self> {
        Self::new(&Weights::random(device, kind), Variant::Art)
    }

    fn new(weights: &Weights, variant: Variant) -> Result<Self> {
        let net = no_grad(|| Inception::new(weights, variant))?;
        Ok(Self { net, device: weights.device(), kind: weights.kind() })
    }

    /// How many numbers describe a picture.
    pub fn width(&self) -> i64 {
        self.net.width()
    }

    /// Features of pictures of one size: float32 [pictures, width] on the CPU.
    pub fn features(&self, pictures: &[RgbImage], batch: usize) -> Result<Tensor> {
        let parts = pictures.chunks(batch.max(1)).map(|chunk| self.batch(chunk)).collect::<Result<Vec<_>>>()?;
        joined(parts)
    }

    /// Features [pictures, width] → what the network's classifiers make of them: logits [pictures, styles]
    /// and [pictures, classes], on the CPU. None where the checkpoint has no classifiers.
    pub fn classify(&self, features: &Tensor) -> Option<(Tensor, Tensor)> {
        let features = features.to_device(self.device).to_kind(self.kind);
        let (styles, classes) = no_grad(|| self.net.classify(&features))?;
        let home = |logits: Tensor| logits.to_device(Device::Cpu).to_kind(Kind::Float);
        Some((home(styles), home(classes)))
    }

    /// Features of picture files, decoded while the device works: float32 [pictures, width] on the device. Does not
    /// wait for it.
    pub fn features_of_files(&self, pictures: Batches) -> Result<Tensor> {
        let mut parts = Vec::new();
        for batch in pictures {
            let batch = batch?;
            parts.push(batch.cut(&self.of_pixels(&batch.set(0))?));
        }
        on_device(&parts)
    }

    /// [pictures, width] on the device.
    pub(super) fn batch(&self, pictures: &[RgbImage]) -> Result<Tensor> {
        self.of_pixels(&pixels(pictures, self.device, self.kind)?)
    }

    pub(super) fn of_pixels(&self, pixels: &Tensor) -> Result<Tensor> {
        no_grad(|| self.net.forward(pixels))
    }
}

/// Has libtorch load cuDNN for a GPU in the background: half a second that can pass while weights are read. On the
/// CPU there is nothing to load.
pub fn warm_up(device: Device, kind: Kind) -> Option<Background> {
    let work = move || {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (kind, device));
        // What goes wrong here goes wrong again where it matters.
        let convolve = || conv_relu(&zeros(&[1, 3, 32, 32]), &zeros(&[8, 3, 3, 3]), &zeros(&[8]), 1, [0, 0]);
        let _ = catch_panics(|| Ok(no_grad(convolve)));
    };
    device.is_cuda().then(|| Background::start(work))
}

/// Batches of features as one float32 tensor on the CPU.
fn joined(parts: Vec<Tensor>) -> Result<Tensor> {
    Ok(on_device(&parts)?.to_device(Device::Cpu))
}

/// Batches of features as one float32 tensor where they are.
pub(super) fn on_device(parts: &[Tensor]) -> Result<Tensor> {
    if parts.is_empty() {
        bail!("no pictures to measure");
    }
    Ok(Tensor::cat(parts, 0).to_kind(Kind::Float))
}
