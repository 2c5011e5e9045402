//! JPEG by libjpeg (accurate integer DCT, fancy upsampling): the very bytes that Pillow gives.

use std::io::{BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow, bail};
use image::RgbImage;
use mozjpeg::{ColorSpace, Decompress};

use super::header::Header;
use super::limits::MAX_SCANS;
use super::raw::from_raw;

/// Decodes any JPEG that libjpeg reads and whose header was checked; a truncated one is an error, as in Pillow.
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<RgbImage> {
    if let Some(first) = header.scans
        && scans(&bytes[first as usize..]) > MAX_SCANS
    {
        bail!("it has more than {MAX_SCANS} scans (a decompression bomb?): save it anew");
    }
    let ended = AtomicBool::new(false);
    let source = Source { bytes, ended: &ended };
    // libjpeg reports errors by unwinding, with its message as payload; no panic hook sees it.
    let image = catch_unwind(AssertUnwindSafe(|| decompress(source, header))).unwrap_or_else(|payload| {
        let message = payload.downcast_ref::<String>().map_or("unknown error", String::as_str);
        Err(anyhow!("{}", message.trim_start_matches("libjpeg fatal error: ")))
    });
    if ended.load(Ordering::Relaxed) {
        bail!("the file is truncated");
    }
    image
}

/// How many scans there are from the first one's data on. In coded data a 0xff is never followed by these codes.
fn scans(bytes: &[u8]) -> usize {
    let markers = bytes.windows(2).filter(|pair| pair[0] == 0xff);
    1 + markers.take_while(|pair| pair[1] != 0xd9).filter(|pair| pair[1] == 0xda).count()
}

fn decompress(source: Source, header: &Header) -> Result<RgbImage> {
    let decoder = Decompress::new_reader(source)?;
    let (width, height) = decoder.size();
    if (width, height) != (header.width as usize, header.height as usize) {
        bail!("its size is not the one of its header");
    }
    let four_channels = matches!(decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
    let mut started = if four_channels { decoder.to_colorspace(ColorSpace::JCS_CMYK)? } else { decoder.rgb()? };
    let mut pixels = vec![0; 3 * width * height];
    if four_channels {
        let mut inverted = vec![0; 4 * width];
        for row in pixels.chunks_exact_mut(3 * width) {
            started.read_scanlines_into::<u8>(&mut inverted)?;
            for (cmyk, rgb) in inverted.as_chunks::<4>().0.iter().zip(row.as_chunks_mut::<3>().0) {
                *rgb = inverted_cmyk_to_rgb(*cmyk);
            }
        }
    } else {
        started.read_scanlines_into::<u8>(&mut pixels)?;
    }
    started.finish()?;
    from_raw(width as u32, height as u32, pixels)
}

/// Adobe's files hold 255 − ink, and Pillow takes every CMYK JPEG for one.
fn inverted_cmyk_to_rgb(inverted: [u8; 4]) -> [u8; 3] {
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
