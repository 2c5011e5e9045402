//! What the first bytes of a picture file say of it and what decoding it will take, without decoding anything.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::ImageFormat;
use rayon::prelude::*;

use super::limits::{check_file_size, check_memory, check_size};

/// The formats that are decoded, told by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Jpeg,
    Png,
    WebP,
}

impl fmt::Display for FileKind {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
        })
    }
}

/// A picture file's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub kind: FileKind,
    pub width: u32,
    pub height: u32,
    /// Most bytes that decoding takes beside the file: pixels, and what the decoder holds of the whole picture.
    pub(super) memory: u64,
    /// In a JPEG of several scans, where the first one begins.
    pub(super) scans: Option<u64>,
    /// What is particular to it, for messages.
    detail: &'static str,
}

/// Reads the header of a picture file and checks it against the limits (see `limits.rs`); no pixel is decoded.
pub fn probe(path: impl AsRef<Path>) -> Result<Header> {
    let path = path.as_ref();
    let read = || -> Result<Header> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        check_file_size(bytes)?;
        let header = Header::read(&mut BufReader::with_capacity(4096, file))?;
        header.check(bytes)?;
        Ok(header)
    };
    read().with_context(|| format!("cannot read picture {}", path.display()))
}

/// [`probe`] on all cores; results in the order given.
pub fn probe_all<P: AsRef<Path> + Sync>(paths: &[P]) -> Vec<Result<Header>> {
    paths.par_iter().map(probe).collect()
}

/// Bytes that tell the format, and all of the header but for JPEG.
const START: usize = 33;

impl Header {
    /// Reads what is at the start of a file.
    pub(super) fn read(reader: &mut (impl BufRead + Seek)) -> Result<Self> {
        let mut start = Vec::with_capacity(START);
        reader.by_ref().take(START as u64).read_to_end(&mut start)?;
        if start.is_empty() {
            bail!("the file is empty");
        }
        match image::guess_format(&start) {
            Ok(ImageFormat::Jpeg) => {
                // Behind the first marker.
                reader.seek_relative(2 - start.len() as i64)?;
                jpeg(reader).map_err(|error| damaged(FileKind::Jpeg, error))
            }
            Ok(ImageFormat::Png) => png(&start).map_err(|error| damaged(FileKind::Png, error)),
            Ok(ImageFormat::WebP) => webp(&start).map_err(|error| damaged(FileKind::WebP, error)),
            _ => bail!("not a JPEG, PNG or WebP picture, whatever its name says"),
        }
    }

    /// Holds the picture, in a file of so many bytes, against the limits.
    pub(super) fn check(&self, file_bytes: u64) -> Result<()> {
        check_size(self.width.into(), self.height.into())?;
        check_memory(self.memory.saturating_add(file_bytes), &self.to_string())
    }
}

impl fmt::Display for Header {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { kind, width, height, detail, .. } = self;
        let article = if detail.starts_with('a') { "an" } else { "a" };
        write!(formatter, "{article} {detail}{kind} of {width}×{height} pixels")
    }
}

/// Files that end too early are told in the same words for all formats.
fn damaged(kind: FileKind, error: anyhow::Error) -> anyhow::Error {
    let ended = error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::UnexpectedEof);
    let error = if ended { anyhow!("the file is truncated") } else { error };
    error.context(format!("damaged {kind}"))
}

/// <https://www.w3.org/TR/png-3/#11IHDR>
fn png(start: &[u8]) -> Result<Header> {
    let header = start.get(8..29).context("the file is truncated")?;
    ensure!(&header[4..8] == b"IHDR", "it does not begin with a header");
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (width, height, depth) = (number(8), number(12), u64::from(header[16]));
    let channels = match header[17] {
        0 | 3 => 1,
        2 => 3,
        4 => 2,
        6 => 4,
        other => bail!("there is no colour type {other}"),
    };
    // Rows are decoded one by one: the decoder holds a few of them, as in the file and unpacked.
    let row = u64::from(width) * (channels * depth.max(8) / 8).max(4);
    let memory = (u64::from(width) * u64::from(height)).saturating_mul(3).saturating_add(4 * row);
    let detail = if depth == 16 { "16-bit " } else { "" };
    Ok(Header { kind: FileKind::Png, width, height, memory, scans: None, detail })
}

/// <https://developers.google.com/speed/webp/docs/riff_container>, RFC 6386 section 9.1
fn webp(start: &[u8]) -> Result<Header> {
    let chunk = start.get(12..30).context("the file is truncated")?;
    let (name, data) = (&chunk[..4], &chunk[8..]);
    let number = |at: usize, bytes: usize| (0..bytes).map(|k| u32::from(data[at + k]) << (8 * k)).sum::<u32>();
    // Bytes for each pixel: planes of luma and chroma (1.5), alpha while it is unpacked (5), a frame and a canvas (4 each).
    let (width, height, each, detail) = match name {
        b"VP8 " => (number(6, 2) & 0x3fff, number(8, 2) & 0x3fff, 5, ""),
        b"VP8L" => ((number(1, 4) & 0x3fff) + 1, (number(1, 4) >> 14 & 0x3fff) + 1, 8, "lossless "),
        b"VP8X" => {
            let (alpha, animated) = (data[0] & 0x10 != 0, data[0] & 0x02 != 0);
            let (each, detail) = match (animated, alpha) {
                (true, _) => (18, "animated "),
                (false, true) => (11, "transparent "),
                (false, false) => (8, ""),
            };
            (number(4, 3) + 1, number(7, 3) + 1, each, detail)
        }
        _ => bail!("it does not begin with a picture"),
    };
    let memory = (u64::from(width) * u64::from(height)).saturating_mul(each);
    Ok(Header { kind: FileKind::WebP, width, height, memory, scans: None, detail })
}

/// ITU-T T.81 annex B, from behind the first marker on; as lenient as libjpeg between segments.
fn jpeg(reader: &mut (impl BufRead + Seek)) -> Result<Header> {
    let mut frame: Option<Frame> = None;
    loop {
        match next_marker(reader)? {
            // No segments: begin of image, restarts.
            0x01 | 0xd0..=0xd8 => {}
            0xd9 => bail!("it ends before its picture"),
            0xda => {
                let _length: [u8; 2] = read(reader)?;
                let [components] = read(reader)?;
                let frame = frame.context("it has no size")?;
                return frame.header(components, reader.stream_position()?);
            }
            code @ 0xc0..=0xcf if !matches!(code, 0xc4 | 0xc8 | 0xcc) && frame.is_none() => {
                frame = Some(Frame::read(reader, matches!(code, 0xc2 | 0xc6 | 0xca | 0xce))?);
            }
            _ => {
                let length = u16::from_be_bytes(read(reader)?);
                reader.seek_relative(i64::from(length.saturating_sub(2)))?;
            }
        }
    }
}

fn read<const N: usize>(reader: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The next marker's code; what lies before it is skipped.
fn next_marker(reader: &mut impl BufRead) -> std::io::Result<u8> {
    loop {
        while read(reader)? != [0xff] {}
        let [mut code] = read(reader)?;
        while code == 0xff {
            [code] = read(reader)?;
        }
        if code != 0 {
            return Ok(code);
        }
    }
}

/// A JPEG's frame header.
struct Frame {
    width: u16,
    height: u16,
    /// Horizontal and vertical sampling factors.
    components: Vec<(u64, u64)>,
    progressive: bool,
}

impl Frame {
    fn read(reader: &mut impl Read, progressive: bool) -> Result<Self> {
        let [_, _, _, h1, h0, w1, w0, count] = read(reader)?;
        let mut components = Vec::new();
        for _ in 0..count {
            let [_, factors, _] = read(reader)?;
            components.push((u64::from(factors >> 4), u64::from(factors & 15)));
        }
        ensure!(
            components.iter().all(|(across, down)| (1..=4).contains(across) && (1..=4).contains(down)),
            "its sampling factors are wrong"
        );
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        Ok(Self { width, height, components, progressive })
    }

    /// `first` is how many components the first scan has, `behind` where its header's list begins.
    fn header(self, first: u8, behind: u64) -> Result<Header> {
        let several = self.progressive || usize::from(first) < self.components.len();
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        let most = |of: fn(&(u64, u64)) -> u64| self.components.iter().map(of).max().unwrap_or(1);
        let (across, down) = (most(|factors| factors.0), most(|factors| factors.1));
        // With several scans libjpeg holds all coefficients, of two bytes each, in blocks of 8×8.
        let blocks = |size: u64, factor: u64, most: u64| (size * factor).div_ceil(8 * most) * 8 + 8 * factor;
        let of_one = |(h, v): &(u64, u64)| 2 * blocks(width, *h, across) * blocks(height, *v, down);
        let coefficients = if several { self.components.iter().map(of_one).sum() } else { 0 };
        let detail = match (self.progressive, several) {
            (true, _) => "progressive ",
            (_, true) => "multi-scan ",
            _ => "",
        };
        Ok(Header {
            kind: FileKind::Jpeg,
            width: self.width.into(),
            height: self.height.into(),
            memory: 3 * width * height + coefficients,
            scans: several.then_some(behind),
            detail,
        })
    }
}
