//! Pictures as tensors of bytes; normalisation is each model's own.

use anyhow::{Context, Result, bail};
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use crate::runtime::upload;

/// uint8 [3, height, width] on the CPU.
pub fn to_tensor(image: &RgbImage) -> Tensor {
    interleaved_tensor(image).contiguous()
}

/// The same numbers without a change of their order in memory: a view of [height, width, 3].
pub fn interleaved_tensor(image: &RgbImage) -> Tensor {
    let (width, height) = image.dimensions();
    Tensor::from_slice(image.as_raw()).view([height.into(), width.into(), 3]).permute([2, 0, 1])
}

/// uint8 [pictures, 3, height, width] on the CPU; the pictures must be of one size.
pub fn batch_tensor(images: &[RgbImage]) -> Result<Tensor> {
    let Some(first) = images.first() else { bail!("a batch of no pictures") };
    if let Some(other) = images.iter().find(|image| image.dimensions() != first.dimensions()) {
        let ((w, h), (other_w, other_h)) = (first.dimensions(), other.dimensions());
        bail!("pictures of one batch must be of one size: {w}×{h} and {other_w}×{other_h}");
    }
    let rows: Vec<Tensor> = images.iter().map(to_tensor).collect();
    Ok(Tensor::stack(&rows, 0))
}

/// The picture of a uint8 [3, height, width] tensor on any device.
pub fn from_tensor(tensor: &Tensor) -> Result<RgbImage> {
    let size = tensor.size();
    let (&[3, height, width], Kind::Uint8) = (size.as_slice(), tensor.kind()) else {
        bail!("a picture is uint8 [3, height, width], not {:?} {size:?}", tensor.kind());
    };
    let interleaved = tensor.permute([1, 2, 0]).contiguous().to_device(Device::Cpu).view([-1]);
    let pixels = Vec::<u8>::try_from(&interleaved)?;
    RgbImage::from_raw(width as u32, height as u32, pixels).context("the tensor has too few values")
}

/// Bytes [batch, 3, height, width] times `rescale`, less a mean and over a deviation for each colour, in float32. As in
/// transformers' processors the scale is folded into mean and deviation.
pub fn standardize(pixels: &Tensor, rescale: Option<f64>, mean_and_deviation: Option<([f64; 3], [f64; 3])>) -> Tensor {
    let scale = rescale.map_or(1.0, |factor| 1.0 / factor);
    let (mean, deviation) = mean_and_deviation.unwrap_or(([0.0; 3], [1.0; 3]));
    let colours = |values: [f64; 3]| {
        let values: Vec<f32> = values.iter().map(|value| (value * scale) as f32).collect();
        upload(&Tensor::from_slice(&values).view([1, 3, 1, 1]), pixels.device())
    };
    (pixels.to_kind(Kind::Float) - colours(mean)) / colours(deviation)
}
