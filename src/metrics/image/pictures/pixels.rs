//! Decoded pictures as a tensor.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use crate::nn::wants_channels_first;
use crate::runtime::shim;

/// [batch, 3, height, width] in [0, 1], the channels of a pixel side by side in memory but for float32 on CUDA.
/// The pictures must be of one size.
pub fn pixels(pictures: &[RgbImage], device: Device, kind: Kind) -> Result<Tensor> {
    to_pixels(&bytes(&pictures.iter().collect::<Vec<_>>(), pictures.len(), device)?, device, kind)
}

/// Pictures of one size beside each other: uint8 [rows, height, width, 3], where a GPU fetches them by itself if they are for
/// one. Rows beyond the pictures are black.
pub(super) fn bytes(pictures: &[&RgbImage], rows: usize, device: Device) -> Result<Tensor> {
    let (width, height) = one_size(pictures, rows)?;
    let shape = [rows as i64, height.into(), width.into(), 3];
    let size = 3 * width as usize * height as usize;
    let fill = |place: &mut [u8]| {
        let (filled, black) = place.split_at_mut(pictures.len() * size);
        for (here, picture) in filled.chunks_exact_mut(size.max(1)).zip(pictures) {
            here.copy_from_slice(picture.as_raw());
        }
        black.fill(0);
    };
    let pinned = |place: &mut [u8]| {
        fill(place);
        Ok(())
    };
    if let Some(bytes) = device.is_cuda().then(|| shim::pinned_bytes(&shape, pinned)).flatten() {
        return bytes;
    }
    let mut bytes = vec![0; rows * size];
    fill(&mut bytes);
    shim::tensor_over_map(Arc::new(bytes), 0, &shape, &[size as i64, 3 * i64::from(width), 3, 1], Kind::Uint8)
}

/// Width and height of all of these, which are no more than `rows`.
fn one_size(pictures: &[&RgbImage], rows: usize) -> Result<(u32, u32)> {
    let (width, height) = pictures.first().context("a batch of no pictures")?.dimensions();
    ensure!(pictures.len() <= rows, "more pictures than rows");
    if let Some((w, h)) = pictures.iter().map(|picture| picture.dimensions()).find(|size| *size != (width, height)) {
        bail!("pictures of one batch are {width}×{height} and {w}×{h}");
    }
    Ok((width, height))
}

/// Bytes on the way to a GPU at once.
const PIECE: usize = 8 << 20;

/// What [`bytes`] gives, on a GPU, in a thread that [works aside](shim::work_aside). It goes through a few pieces of pinned
/// memory: a gigabyte of that takes the system half a second to give and a fifth to take back when the program ends.
pub(super) fn sent(pictures: &[&RgbImage], rows: usize, gpu: usize) -> Result<Tensor> {
    let (width, height) = one_size(pictures, rows)?;
    let device = Device::Cuda(gpu);
    let at_once = (PIECE / (3 * width as usize * height as usize).max(1)).max(1);
    let mut pieces = Vec::new();
    for some in pictures.chunks(at_once) {
        let piece = bytes(some, some.len(), device)?;
        pieces.push(piece.f_internal_to_copy((Kind::Uint8, device), true)?);
    }
    let black = [(rows - pictures.len()) as i64, height.into(), width.into(), 3];
    pieces.push(Tensor::f_zeros(black, (Kind::Uint8, device))?);
    let all = Tensor::f_cat(&pieces, 0)?;
    shim::wait_for_own(gpu)?;
    Ok(all)
}

/// What [`pixels`] gives, of [`bytes`] or of those that are [`sent`]. Does not wait for the device.
pub(super) fn to_pixels(bytes: &Tensor, device: Device, kind: Kind) -> Result<Tensor> {
    let there = if bytes.device() != device {
        bytes.f_internal_to_copy((Kind::Uint8, device), true)?
    } else {
        if device.is_cuda() {
            shim::used_here(bytes)?;
        }
        bytes.shallow_clone()
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

    #[test]
    fn rows_without_a_picture_are_black_and_none_is_left_out() {
        let picture = |value| RgbImage::from_pixel(2, 1, image::Rgb([value; 3]));
        let laid = |pictures: &[RgbImage], rows| bytes(&pictures.iter().collect::<Vec<_>>(), rows, Device::Cpu);
        let two = laid(&[picture(1), picture(2)], 3).unwrap();
        assert_eq!(two.size(), [3, 1, 2, 3]);
        let values = Vec::<u8>::try_from(two.view([-1])).unwrap();
        assert_eq!(values, [[1; 6], [2; 6], [0; 6]].concat());
        assert!(laid(&[picture(1), picture(2)], 1).unwrap_err().to_string().contains("more pictures than rows"));
        let other = laid(&[picture(1), RgbImage::new(1, 2)], 2).unwrap_err().to_string();
        assert_eq!(other, "pictures of one batch are 2×1 and 1×2");
    }
}
