//! Decoded pictures as a tensor.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use crate::nn::wants_channels_first;
use crate::runtime::shim;

/// [batch, 3, height, width] in [0, 1], the channels of a pixel side by side in memory but for float32 on CUDA.
/// The pictures must be of one size.
pub fn pixels(pictures: &[RgbImage], device: Device, kind: Kind) -> Result<Tensor> {
    to_pixels(&bytes(pictures.iter(), pictures.len())?, device, kind)
}

/// Pictures of one size beside each other: uint8 [rows, height, width, 3]. Rows beyond the pictures are
/// black.
pub(super) fn bytes<'a>(mut pictures: impl Iterator<Item = &'a RgbImage>, rows: usize) -> Result<Tensor> {
    let first = pictures.next().context("a batch of no pictures")?;
    let (width, height) = first.dimensions();
    let size = first.as_raw().len();
    let mut bytes = Vec::with_capacity(rows * size);
    bytes.extend_from_slice(first.as_raw());
    for picture in pictures {
        let (w, h) = picture.dimensions();
        ensure!((w, h) == (width, height), "pictures of one batch are {width}×{height} and {w}×{h}");
        bytes.extend_from_slice(picture.as_raw());
    }
    bytes.resize(rows * size, 0);
    let (width, height) = (i64::from(width), i64::from(height));
    let strides = [size as i64, 3 * width, 3, 1];
    shim::tensor_over_map(Arc::new(bytes), 0, &[rows as i64, height, width, 3], &strides, Kind::Uint8)
}

/// What [`pixels`] gives, of [`bytes`]. Does not wait for the device where the bytes are pinned.
pub(super) fn to_pixels(bytes: &Tensor, device: Device, kind: Kind) -> Result<Tensor> {
    let there = if device == Device::Cpu {
        bytes.shallow_clone()
    } else {
        bytes.f_internal_to_copy((Kind::Uint8, device), true)?
    };
    let channels_first = there.permute([0, 3, 1, 2]);
    // As the networks want them laid out there.
    let laid_out = if wants_channels_first(device, kind) { channels_first.contiguous() } else { channels_first };
    Ok(laid_out.to_kind(kind) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_in_zero_to_one_and_channels_first() {
        let picture = RgbImage::from_fn(2, 1, |x, _| image::Rgb([0, 255, 51 * x as u8]));
        let batch = pixels(&[picture.clone(), picture], Device::Cpu, Kind::Float).unwrap();
        assert_eq!(batch.size(), [2, 3, 1, 2]);
        let values = Vec::<f32>::try_from(batch.select(0, 1).contiguous().view([-1])).unwrap();
        assert_eq!(values, [0.0, 0.0, 1.0, 1.0, 0.0, 51.0 / 255.0]);
    }
}
