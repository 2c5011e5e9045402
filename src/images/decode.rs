//! File content → RGB, as Pillow's `Image.open(file).convert("RGB")` gives it.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, bail};
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::{MAX_PIXELS, jpeg};

/// Decodes a JPEG, PNG or WebP file held in memory. Alpha is dropped, not blended; 16-bit colour
/// keeps its high byte, 16-bit gray is clipped at 255 (what Pillow does); of an animation, the
/// first frame.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    if bytes.is_empty() {
        bail!("the file is empty");
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes).context("damaged JPEG"),
        Ok(ImageFormat::Png) => {
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), Limits::no_limits()).context("damaged PNG")?;
            rgb(decoder).context("damaged PNG")
        }
        Ok(ImageFormat::WebP) => {
            rgb(WebPDecoder::new(Cursor::new(bytes)).context("damaged WebP")?).context("damaged WebP")
        }
        _ => bail!("not a JPEG, PNG or WebP picture, whatever its name says"),
    }
}

/// Width and height as the header of a picture file says, without decoding it.
pub fn size(path: impl AsRef<Path>) -> Result<(u32, u32)> {
    let path = path.as_ref();
    let size = ImageReader::open(path)
        .map_err(ImageError::IoError)
        .and_then(|reader| reader.with_guessed_format()?.into_dimensions());
    size.with_context(|| format!("cannot read picture {}", path.display()))
}

/// The pixel limit, checked before anything of the picture's size is allocated.
pub(super) fn check_size(width: u64, height: u64) -> Result<()> {
    if width == 0 || height == 0 {
        bail!("the picture is {width}×{height}: it has no pixels");
    }
    if width.saturating_mul(height) > MAX_PIXELS {
        bail!("{width}×{height} pixels are more than the limit of {MAX_PIXELS} (a decompression bomb?)");
    }
    Ok(())
}

fn rgb(decoder: impl ImageDecoder) -> Result<RgbImage> {
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    let image = DynamicImage::from_decoder(decoder)?;
    Ok(match image {
        DynamicImage::ImageLuma16(gray) => {
            let clipped = gray.pixels().flat_map(|p| [p.0[0].min(255) as u8; 3]).collect();
            from_raw(width, height, clipped)?
        }
        DynamicImage::ImageLumaA16(gray) => {
            let high = gray.pixels().flat_map(|p| [(p.0[0] >> 8) as u8; 3]).collect();
            from_raw(width, height, high)?
        }
        DynamicImage::ImageRgb16(colour) => {
            let high = colour.pixels().flat_map(|p| p.0.map(|v| (v >> 8) as u8)).collect();
            from_raw(width, height, high)?
        }
        DynamicImage::ImageRgba16(colour) => {
            let high = colour.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]].map(|v| (v >> 8) as u8)).collect();
            from_raw(width, height, high)?
        }
        other => other.into_rgb8(),
    })
}

/// `pixels` is [height, width, 3].
pub(super) fn from_raw(width: u32, height: u32, pixels: Vec<u8>) -> Result<RgbImage> {
    RgbImage::from_raw(width, height, pixels).context("the decoder gave fewer pixels than the header says")
}
