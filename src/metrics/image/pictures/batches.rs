//! Decoded pictures as batches, laid out while the device works.

use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Result;
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use super::decoding::{CPU_BATCH, Decoding};
use super::pixels::{bytes, sent, to_pixels};
use crate::runtime::{Background, catch_panics, free_memory, shim};

/// A batch of pictures of 224×224 that fills any GPU; of larger ones fewer, for their memory.
const GPU_BATCH: usize = 256;
const GPU_BATCH_PIXELS: u64 = GPU_BATCH as u64 * 224 * 224;
/// Device memory that the networks take for a pixel of a picture (or a pair of them), rounded up generously.
const GPU_BYTES_PER_PIXEL: u64 = 512;

impl Decoding {
    /// Batches of at most `most` pictures of each set (default: what suits the device).
    pub fn batches(self, most: Option<usize>, device: Device, kind: Kind) -> Batches {
        self.laid_out(most, None, device, kind)
    }

    /// The same of some of `all` pictures (or pairs): batches as large as those of all, a last one that is smaller filled
    /// up on a GPU.
    pub fn batches_of(self, all: usize, most: Option<usize>, device: Device, kind: Kind) -> Batches {
        self.laid_out(most, Some(all), device, kind)
    }

    fn laid_out(self, most: Option<usize>, all: Option<usize>, device: Device, kind: Kind) -> Batches {
        // One waits, one is being laid out, one is on the device.
        let (sender, receiver) = sync_channel(1);
        let layout = Background::start(move || {
            let aside = matches!(device, Device::Cuda(gpu) if shim::work_aside(gpu));
            let mut layout = Layout { pictures: self, most, all, device, aside, rows: None };
            // Ends with the pictures, after an error, and when nobody takes batches any more.
            while let Some(batch) = catch_panics(|| layout.next()).transpose() {
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Batches { receiver, _layout: layout, device, kind }
    }
}

/// Lays decoded pictures out as batches, in a thread of its own.
struct Layout {
    pictures: Decoding,
    most: Option<usize>,
    /// Pictures of each set that these are some of, where they are not all.
    all: Option<usize>,
    device: Device,
    /// Whether this thread sends them to the device.
    aside: bool,
    /// Pictures of each set in a batch, once the first picture is there.
    rows: Option<usize>,
}

impl Layout {
    fn next(&mut self) -> Result<Option<Laid>> {
        let (sets, mut pictures) = (self.pictures.sets, Vec::new());
        let rows = match self.rows {
            Some(rows) => rows,
            None => {
                let all = self.all.unwrap_or(self.pictures.pictures.len() / sets);
                pictures = self.pictures.take(1)?;
                let Some(first) = pictures.first() else { return Ok(None) };
                *self.rows.insert(self.rows(all, first.dimensions()))
            }
        };
        pictures.extend(self.pictures.take(sets * rows - pictures.len())?);
        let count = pictures.len() / sets;
        if count == 0 {
            return Ok(None);
        }
        let in_order: Vec<&RgbImage> = (0..sets).flat_map(|set| pictures.iter().skip(set).step_by(sets)).collect();
        // cuDNN chooses its kernels for each size of batch anew, so that the last batch is filled up.
        let rows = if self.device == Device::Cpu { count } else { rows };
        let bytes = match self.device {
            Device::Cuda(gpu) if self.aside => sent(&in_order, sets * rows, gpu)?,
            device => bytes(&in_order, sets * rows, device)?,
        };
        Ok(Some(Laid { bytes, count, rows }))
    }

    fn rows(&self, all: usize, size: (u32, u32)) -> usize {
        rows(self.most, all, size, self.device, free_memory(self.device))
    }
}

/// Pictures of each set in a batch: at most `most`, or what suits the device with so many bytes of free memory, of
/// `all` pictures of this size.
pub fn rows(most: Option<usize>, all: usize, (width, height): (u32, u32), device: Device, free: Option<u64>) -> usize {
    if device == Device::Cpu {
        return most.unwrap_or(CPU_BATCH).max(1);
    }
    let pixels = u64::from(width) * u64::from(height);
    let filling = ((GPU_BATCH_PIXELS / pixels.max(1)) as usize).clamp(CPU_BATCH, GPU_BATCH);
    let room = free.map_or(u64::MAX, |free| free / GPU_BYTES_PER_PIXEL / pixels.max(1));
    let most = most.unwrap_or(filling.min(room as usize)).max(1);
    // Batches as equal as can be.
    all.max(1).div_ceil(all.max(1).div_ceil(most))
}

/// A batch, on the device or on its way.
struct Laid {
    bytes: Tensor,
    count: usize,
    rows: usize,
}

/// Pictures of one size, as batches on a device (see [`Decoding::batches`]).
pub struct Batches {
    // Goes before the thread, which ends when nobody listens.
    receiver: Receiver<Result<Laid>>,
    _layout: Background,
    device: Device,
    kind: Kind,
}

/// A batch on the device.
pub struct Batch {
    /// Of each set `count` pictures, then black ones: [sets · rows, 3, height, width] in [0, 1].
    pub pixels: Tensor,
    pub count: i64,
    pub rows: i64,
}

impl Batch {
    /// Pictures of this set (0 or 1), then others that fill the batch: [rows, 3, height, width].
    pub fn set(&self, set: i64) -> Tensor {
        self.pixels.narrow(0, set * self.count, self.rows)
    }

    /// Of a result for each row of [`Self::set`], what belongs to its pictures.
    pub fn cut(&self, result: &Tensor) -> Tensor {
        result.narrow(0, 0, self.count)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let on_device = |laid: Laid| {
            let pixels = to_pixels(&laid.bytes, self.device, self.kind)?;
            Ok(Batch { pixels, count: laid.count as i64, rows: laid.rows as i64 })
        };
        Some(self.receiver.recv().ok()?.and_then(on_device))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pairs::Pair;
    use super::*;
    use crate::runtime::acted_free;

    /// Every picture once, in order, whatever the sizes of the batches.
    #[test]
    fn batches_hold_all_pictures_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let save = |name: String, value: u8| {
            let file = dir.path().join(name);
            RgbImage::from_pixel(4, 3, image::Rgb([value; 3])).save(&file).unwrap();
            file
        };
        let pair = |i: u8| {
            let (content, stylized) = (save(format!("c{i}.png"), i), save(format!("s{i}.png"), 100 + i));
            Pair { content, stylized, id: i.to_string() }
        };
        let pairs: Vec<Pair> = (0..5).map(pair).collect();
        let value = |pixels: &Tensor, row| (pixels.double_value(&[row, 0, 0, 0]) * 255.0).round() as u8;
        for (for_gpu, most) in [(false, 1), (true, 2), (false, 5), (true, 9)] {
            let (mut content, mut stylized) = (Vec::new(), Vec::new());
            for batch in Decoding::pairs(&pairs, 1, None, for_gpu).batches(Some(most), Device::Cpu, Kind::Float) {
                let batch = batch.unwrap();
                assert!(batch.count <= most as i64 && batch.rows == batch.count);
                content.extend((0..batch.count).map(|row| value(&batch.cut(&batch.set(0)), row)));
                stylized.extend((0..batch.count).map(|row| value(&batch.cut(&batch.set(1)), row)));
            }
            assert_eq!(content, [0, 1, 2, 3, 4]);
            assert_eq!(stylized, [100, 101, 102, 103, 104]);
        }
    }

    #[test]
    fn batches_on_a_gpu_are_equal_and_fit_its_memory() {
        let layout = |most| Layout {
            pictures: Decoding::files(Vec::new(), 1, None, true),
            most,
            all: None,
            device: Device::Cuda(0),
            aside: false,
            rows: None,
        };
        assert_eq!(layout(None).rows(5000, (224, 224)), 250);
        assert_eq!(layout(None).rows(3, (224, 224)), 3);
        assert_eq!(layout(None).rows(5000, (1024, 1024)), 16);
        assert_eq!(layout(Some(100)).rows(250, (224, 224)), 84);
        acted_free(Some(2 << 30));
        assert_eq!(layout(None).rows(5000, (224, 224)), 82, "little memory is free");
        assert_eq!(layout(None).rows(5000, (1024, 1024)), 4);
        assert_eq!(layout(Some(100)).rows(250, (224, 224)), 84);
        acted_free(None);
    }
}
