//! JPEG by libjpeg (accurate integer DCT, fancy upsampling): the very bytes that Pillow gives.

use std::io::{BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow, bail};
use image::RgbImage;
use mozjpeg::{ColorSpace, Decompress};

use super::decode::{check_size, from_raw};

/// Decodes any JPEG that libjpeg reads; a truncated one is an error, as in Pillow.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let ended = AtomicBool::new(false);
    let source = Source { bytes, ended: &ended };
    // libjpeg reports errors by unwinding, with its message as payload; no panic hook sees it.
    let image = catch_unwind(AssertUnwindSafe(|| decompress(source))).unwrap_or_else(|payload| {
        let message = payload.downcast_ref::<String>().map_or("unknown error", String::as_str);
        Err(anyhow!("{}", message.trim_start_matches("libjpeg fatal error: ")))
    });
    if ended.load(Ordering::Relaxed) {
        bail!("the file is truncated");
    }
    image
}

fn decompress(source: Source) -> Result<RgbImage> {
    let decoder = Decompress::new_reader(source)?;
    let (width, height) = decoder.size();
    check_size(width as u64, height as u64)?;
    let four_channels = matches!(decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
    let mut started = if four_channels { decoder.to_colorspace(ColorSpace::JCS_CMYK)? } else { decoder.rgb()? };
    let pixels: Vec<u8> = started.read_scanlines::<u8>()?;
    started.finish()?;
    let pixels = if four_channels { pixels.chunks_exact(4).flat_map(inverted_cmyk_to_rgb).collect() } else { pixels };
    from_raw(width as u32, height as u32, pixels)
}

/// Adobe's files hold 255 − ink, and Pillow takes every CMYK JPEG for one.
fn inverted_cmyk_to_rgb(inverted: &[u8]) -> [u8; 3] {
    let paper = i32::from(inverted[3]); // 255 − black
    [0, 1, 2].map(|channel| {
        let ink = 255 - i32::from(inverted[channel]);
        let product = ink * paper + 128;
        (paper - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}

/// The bytes, and whether libjpeg asked for more than there are (it then invents an end marker).
struct Source<'a> {
    bytes: &'a [u8],
    ended: &'a AtomicBool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.bytes.is_empty() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Ok(self.bytes)
    }

    fn consume(&mut self, amount: usize) {
        self.bytes = &self.bytes[amount..];
    }
}
