//! File content → RGB, as Pillow's `Image.open(file).convert("RGB")` gives it.

use std::any::Any;
use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use image::codecs::webp::WebPDecoder;
use image::{ColorType, ImageDecoder, RgbImage};

use super::header::{FileKind, Header};
use super::limits::{MAX_FILE_BYTES, check_file_size, check_size};
use super::raw::from_raw;
use super::{jpeg, png};
use crate::runtime::panic_line;

/// Decodes a JPEG, PNG or WebP file held in memory. Alpha is dropped, not blended; 16-bit colour
/// keeps its high byte, 16-bit gray is clipped at 255 (what Pillow does); of an animation, the
/// first frame. What would take more memory than `limits.rs` allow is refused by its header.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let header = Header::read(&mut Cursor::new(bytes))?;
    header.check(bytes.len() as u64)?;
    let work = || match header.kind {
        FileKind::Jpeg => jpeg::decode(bytes, &header),
        FileKind::Png => png::decode(bytes, &header),
        FileKind::WebP => webp(bytes),
    };
    picture(work).with_context(|| format!("damaged {}", header.kind))
}

/// What a decoder gives; one that panics has met a damaged file, too.
fn picture(decode: impl FnOnce() -> Result<RgbImage>) -> Result<RgbImage> {
    let stopped = |payload: Box<dyn Any + Send>| Err(anyhow!("the decoder stopped: {}", panic_line(payload.as_ref())));
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(stopped)
}

/// The bytes of a picture file, if they are not too many.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    check_file_size(size)?;
    let mut bytes = Vec::with_capacity(size as usize);
    // A pipe or a device does not say how much it holds.
    (&mut file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    check_file_size(bytes.len() as u64)?;
    Ok(bytes)
}

fn webp(bytes: &[u8]) -> Result<RgbImage> {
    let decoder = WebPDecoder::new(Cursor::new(bytes))?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    let has_alpha = decoder.color_type() == ColorType::Rgba8;
    let mut pixels = vec![0; width as usize * height as usize * if has_alpha { 4 } else { 3 }];
    decoder.read_image(&mut pixels)?;
    if has_alpha {
        drop_alpha(&mut pixels);
    }
    from_raw(width, height, pixels)
}

/// RGBA → RGB in place.
fn drop_alpha(pixels: &mut Vec<u8>) {
    let count = pixels.len() / 4;
    for at in 0..count {
        let rgb = [pixels[4 * at], pixels[4 * at + 1], pixels[4 * at + 2]];
        pixels[3 * at..3 * at + 3].copy_from_slice(&rgb);
    }
    pixels.truncate(3 * count);
    pixels.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_is_an_error() {
        let error = picture(|| panic!("index {} out of bounds\nand more", 7)).unwrap_err().to_string();
        assert_eq!(error, "the decoder stopped: index 7 out of bounds");
    }
}
