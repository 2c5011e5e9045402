//! Writing pictures, whole or not at all.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;

use super::text::{Text, with_texts};
use crate::error::usage;
use crate::runtime::write_whole;

type Encode = fn(&RgbImage, &mut dyn Write) -> image::ImageResult<()>;

/// JPEG quality: no visible loss, a third of the size of a PNG.
const JPEG_QUALITY: u8 = 95;

/// Writes a picture in the format its name ends in: `.png` and `.webp` (both lossless), `.jpg`.
/// Another ending is wrong usage.
pub fn save(image: &RgbImage, path: impl AsRef<Path>) -> Result<()> {
    save_with(image, path, &[])
}

/// The same with texts, which a PNG carries before its pixels; other formats go without.
pub fn save_with(image: &RgbImage, path: impl AsRef<Path>, texts: &[Text]) -> Result<()> {
    let path = path.as_ref();
    let encode = encoder(path)?;
    let is_png = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
    write_whole(path, |file| {
        let mut out = BufWriter::new(file);
        if texts.is_empty() || !is_png {
            encode(image, &mut out)?;
        } else {
            let mut png = Vec::new();
            encode(image, &mut png)?;
            out.write_all(&with_texts(&png, texts))?;
        }
        Ok(out.flush()?)
    })
    .with_context(|| format!("cannot write picture {}", path.display()))
}

/// Whether [`save`] knows the format that a name ends in: to say so before a long work begins.
pub fn check_name(path: impl AsRef<Path>) -> Result<()> {
    encoder(path.as_ref()).map(drop)
}

fn encoder(path: &Path) -> Result<Encode> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_ascii_lowercase();
    Ok(match extension.as_str() {
        "png" => |image, out| {
            // Of pictures nearly as small as with the default, in a tenth of the time.
            image.write_with_encoder(PngEncoder::new_with_quality(out, CompressionType::Fast, FilterType::Adaptive))
        },
        "jpg" | "jpeg" => |image, out| image.write_with_encoder(JpegEncoder::new_with_quality(out, JPEG_QUALITY)),
        "webp" => |image, out| image.write_with_encoder(WebPEncoder::new_lossless(out)),
        _ => {
            return Err(usage(format!("{}: a picture's name ends in .png, .jpg or .webp", path.display())));
        }
    })
}
