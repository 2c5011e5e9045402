//! Pictures → features of a network.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use image::RgbImage;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

use super::Embedder;
use super::networks::Network;
use super::pictures::{Batches, Decoding, Square, pixels};
use crate::checkpoints::{Checkpoint, Weights};
use crate::models::metric_nets::clip::Clip;
use crate::models::metric_nets::csd::Csd;
use crate::models::metric_nets::dinov2::Dinov2;
use crate::models::metric_nets::inception::{Inception, Variant};
use crate::models::vision::image_processor::ImageProcessor;
use crate::nn::{self, conv_relu};
use crate::runtime::{Background, Runtime, with_chosen_tf32};

/// A network that describes pictures by features, on a device.
pub struct FeatureNet {
    net: Net,
    device: Device,
    kind: Kind,
}

/// The networks themselves.
enum Net {
    Inception(Box<Inception>),
    Clip(Box<Clip>),
    Csd(Box<Csd>),
    Dinov2(Box<Dinov2>),
}

impl Net {
    /// What brings pictures to the network's size; None where they go in as they are.
    fn processor(&self) -> Option<&ImageProcessor> {
        match self {
            Self::Inception(_) => None,
            Self::Clip(net) => Some(&net.processor),
            Self::Csd(net) => Some(&net.processor),
            Self::Dinov2(net) => Some(&net.processor),
        }
    }
}

/// Texts that CLIP sees at a time.
pub const TEXTS: usize = 128;

impl FeatureNet {
    /// A network by the name, the folder or the file of its weights (none: the published ones).
    pub fn open(network: Network, name: Option<&str>, rt: &Runtime) -> Result<Self> {
        let path = network.locate(name.unwrap_or(network.model()), rt)?;
        let (device, kind) = (rt.device, rt.kind(Kind::Float));
        let net = match network {
            Network::ArtInception => return Self::load(&path, device, kind),
            Network::InceptionV3 => return Self::load_as(Variant::Fid, &path, device, kind),
            Network::Clip | Network::ClipLarge => Clip::load(&path, device, kind).map(|net| Net::Clip(Box::new(net))),
            Network::Csd => Csd::load(&path, device, kind).map(|net| Net::Csd(Box::new(net))),
            Network::Dinov2 => Dinov2::load(&path, device, kind).map(|net| Net::Dinov2(Box::new(net))),
        };
        Ok(Self { net: net?, device, kind })
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
        Ok(Self { net: Net::Inception(Box::new(net)), device: weights.device(), kind: weights.kind() })
    }

    /// How many numbers describe a picture.
    pub fn width(&self) -> i64 {
        match &self.net {
            Net::Inception(net) => net.width(),
            Net::Clip(net) => net.width(),
            Net::Csd(net) => net.width(),
            Net::Dinov2(net) => net.width(),
        }
    }

    /// Picture files, decoded ahead as this network wants them, made squares first where these are asked for.
    pub fn decoding(&self, files: Vec<PathBuf>, square: Option<&Square>) -> Decoding {
        let for_gpu = self.device.is_cuda();
        match self.net.processor().cloned() {
            Some(processor) => Decoding::prepared(files, square, for_gpu, move |picture| processor.prepare(&picture)),
            None => Decoding::files(files, self.least(), square, for_gpu),
        }
    }

    /// The smallest width and height of a picture.
    fn least(&self) -> u32 {
        match &self.net {
            Net::Inception(net) => net.variant().least(),
            _ => 1,
        }
    }

    /// The number type of the pixels that it takes.
    pub fn pixel_kind(&self) -> Kind {
        match &self.net {
            Net::Inception(_) => self.kind,
            // Their values are made of whole bytes first.
            _ => Kind::Float,
        }
    }

    /// Features of picture files as float32 [pictures, width] on the CPU, all of them numbers.
    ///
    /// # Errors
    /// When a picture cannot be read, or a feature is no finite number: then the picture is named.
    pub fn describe(&self, files: &[PathBuf], batch: Option<usize>) -> Result<Tensor> {
        let batches = self.decoding(files.to_vec(), None).batches(batch, self.device, self.pixel_kind());
        let features = self.features_of_files(batches)?.to_device(Device::Cpu);
        check_finite(&features, |at| files[at].display().to_string())?;
        Ok(features)
    }

    /// Texts as points beside pictures: float32 [texts, width] on the CPU. Only CLIP knows texts.
    pub fn texts(&self, texts: &[String]) -> Result<Tensor> {
        let Net::Clip(net) = &self.net else { bail!("this network knows pictures only") };
        let of_some = |some: &[String]| with_chosen_tf32(|| no_grad(|| net.texts(some)));
        let parts = texts.chunks(TEXTS).map(of_some).collect::<Result<Vec<_>>>()?;
        let features = joined(parts)?;
        check_finite(&features, |at| format!("{:?}", texts[at]))?;
        Ok(features)
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
        let Net::Inception(net) = &self.net else { return None };
        let (styles, classes) = with_chosen_tf32(|| no_grad(|| net.classify(&features)))?;
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
        let Some(processor) = self.net.processor() else {
            return self.of_pixels(&pixels(pictures, self.device, self.kind)?);
        };
        let prepared = pictures.par_iter().map(|picture| processor.prepare(picture)).collect::<Result<Vec<_>>>()?;
        self.of_pixels(&pixels(&prepared, self.device, self.pixel_kind())?)
    }

    /// Of pixels in [0, 1]; as [`ImageProcessor::prepare`] makes pictures, where the network has such a one.
    pub(super) fn of_pixels(&self, pixels: &Tensor) -> Result<Tensor> {
        let standard = |processor: &ImageProcessor| processor.standardize(&(pixels * 255.0));
        let forward = || match &self.net {
            Net::Inception(net) => net.forward(pixels),
            Net::Clip(net) => Ok(net.pictures(&standard(&net.processor))),
            Net::Csd(net) => Ok(net.styles(&standard(&net.processor))),
            Net::Dinov2(net) => Ok(net.pictures(&standard(&net.processor))),
        };
        with_chosen_tf32(|| no_grad(forward))
    }
}

/// On the CPU one at a time: a batch saves nothing there, and what a picture or a text comes to does not depend on what else
/// there is, so that a run in shards ends as a whole one.
impl Embedder for FeatureNet {
    fn pictures(&self, pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        let batch = if self.device == Device::Cpu { 1 } else { pictures.len() };
        Ok(Vec::try_from(self.features(pictures, batch)?)?)
    }

    fn texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        if self.device != Device::Cpu {
            return Ok(Vec::try_from(FeatureNet::texts(self, texts)?)?);
        }
        let alone = |text| anyhow::Ok(Vec::try_from(FeatureNet::texts(self, std::slice::from_ref(text))?.get(0))?);
        texts.iter().map(alone).collect()
    }
}

/// Has libtorch load cuDNN for a GPU in the background: half a second that can pass while weights are read. On the
/// CPU there is nothing to load.
pub fn warm_up(device: Device, kind: Kind) -> Option<Background> {
    nn::warm_up(device, move || {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (kind, device));
        let convolve = || conv_relu(&zeros(&[1, 3, 32, 32]), &zeros(&[8, 3, 3, 3]), &zeros(&[8]), 1, [0, 0]);
        drop(with_chosen_tf32(convolve));
    })
}

/// Refuses a row of `rows` [rows, width] with a number that is not finite, by its name.
pub fn check_finite(rows: &Tensor, name: impl Fn(usize) -> String) -> Result<()> {
    let finite = Vec::<bool>::try_from(rows.isfinite().all_dim(1, false))?;
    match finite.iter().position(|finite| !finite) {
        Some(at) => bail!(
            "{}: its features are not all finite numbers: are the weights damaged, or is float16 too narrow?",
            name(at)
        ),
        None => Ok(()),
    }
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
