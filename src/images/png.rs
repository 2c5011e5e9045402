//! PNG row by row into 8-bit RGB: of a picture with alpha or 16 bits only a few rows are ever there as they are in the
//! file.

use std::io::Cursor;

use anyhow::{Context, Result, anyhow, bail};
use image::RgbImage;
use png::{BitDepth, ColorType, Decoder, DecodingError, InterlaceInfo, Limits, Transformations, expand_interlaced_row};

use super::header::Header;
use super::limits::MAX_METADATA_BYTES;
use super::raw::from_raw;

/// Decodes a PNG whose header was checked. Colour profiles and texts are skipped unread.
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<RgbImage> {
    // The decoder's own limit counts a row as well; a pixel has at most eight bytes.
    let limits = Limits { bytes: MAX_METADATA_BYTES + 8 * header.width as usize };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes and less than 8 bits become 8 bits, transparent colours an alpha channel.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(|error| match error {
        DecodingError::LimitsExceeded => {
            anyhow!("it has more than {} MiB of metadata: save it without them", MAX_METADATA_BYTES >> 20)
        }
        other => other.into(),
    })?;
    let (width, height) = reader.info().size();
    if (width, height) != (header.width, header.height) {
        bail!("its size is not the one of its header");
    }
    let convert = conversion(reader.output_color_type())?;
    let stride = 3 * width as usize;
    let mut pixels = vec![0; stride * height as usize];
    if reader.output_color_type() == (ColorType::Rgb, BitDepth::Eight) {
        reader.next_frame(&mut pixels)?;
        return from_raw(width, height, pixels);
    }
    let (mut rgb, mut line) = (vec![0; stride], 0);
    while let Some(row) = reader.next_interlaced_row()? {
        match row.interlace() {
            InterlaceInfo::Null(_) => {
                let place =
                    pixels.get_mut(line * stride..(line + 1) * stride).context("more rows than its header says")?;
                convert(row.data(), place);
                line += 1;
            }
            InterlaceInfo::Adam7(pass) => {
                convert(row.data(), &mut rgb);
                expand_interlaced_row(&mut pixels, stride, &rgb, pass, 24);
            }
        }
    }
    from_raw(width, height, pixels)
}

/// From a row of the file to RGB.
type Convert = fn(&[u8], &mut [u8]);

/// As Pillow converts: alpha is dropped, 16-bit colour keeps its high byte, 16-bit gray is clipped at 255.
fn conversion(kind: (ColorType, BitDepth)) -> Result<Convert> {
    Ok(match kind {
        (ColorType::Grayscale, BitDepth::Eight) => |row, rgb| each::<1>(row, rgb, |[gray]| [gray; 3]),
        (ColorType::GrayscaleAlpha, BitDepth::Eight) => |row, rgb| each::<2>(row, rgb, |[gray, _]| [gray; 3]),
        (ColorType::Rgb, BitDepth::Eight) => |row, rgb| each::<3>(row, rgb, |rgb| rgb),
        (ColorType::Rgba, BitDepth::Eight) => |row, rgb| each::<4>(row, rgb, |[r, g, b, _]| [r, g, b]),
        (ColorType::Grayscale, BitDepth::Sixteen) => {
            |row, rgb| each::<2>(row, rgb, |[high, low]| [if high > 0 { 255 } else { low }; 3])
        }
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => |row, rgb| each::<4>(row, rgb, |[high, ..]| [high; 3]),
        (ColorType::Rgb, BitDepth::Sixteen) => |row, rgb| each::<6>(row, rgb, |[r, _, g, _, b, _]| [r, g, b]),
        (ColorType::Rgba, BitDepth::Sixteen) => |row, rgb| each::<8>(row, rgb, |[r, _, g, _, b, ..]| [r, g, b]),
        (colour, depth) => bail!("the decoder gave {colour:?} of {depth:?}"),
    })
}

fn each<const N: usize>(row: &[u8], rgb: &mut [u8], convert: impl Fn([u8; N]) -> [u8; 3]) {
    for (from, to) in row.as_chunks::<N>().0.iter().zip(rgb.as_chunks_mut::<3>().0) {
        *to = convert(*from);
    }
}
