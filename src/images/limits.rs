//! What one picture may take: the one place for the limits of decoding. A hostile file must not be able to take the
//! memory of the machine, and a picture that is merely huge gets an error that says what to do.

use anyhow::{Result, bail};

/// More pixels than this are refused before anything is decoded (Pillow's own limit).
pub const MAX_PIXELS: u64 = 178_956_970;

/// A picture file is refused above this size: what claims more is no photo.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

/// Most memory that one picture may take while it is decoded: its file, what the decoder holds, and the pixels.
pub const MAX_DECODE_BYTES: u64 = 1 << 30;

/// Most bytes of a PNG's metadata that are kept in memory. Colour profiles and texts are skipped without being
/// unpacked: nothing here uses them.
pub(super) const MAX_METADATA_BYTES: usize = 16 << 20;

/// A progressive JPEG comes in about ten scans, each of which goes over the whole picture.
pub(super) const MAX_SCANS: usize = 500;

/// The pixel limit, checked before anything of the picture's size is allocated.
pub(super) fn check_size(width: u64, height: u64) -> Result<()> {
    if width == 0 || height == 0 {
        bail!("the picture is {width}×{height}: it has no pixels");
    }
    if width.saturating_mul(height) > MAX_PIXELS {
        bail!(
            "{width}×{height} pixels are more than the limit of {MAX_PIXELS} (a decompression bomb?): make the picture \
             smaller"
        );
    }
    Ok(())
}

/// The limit of a file's own size.
pub(crate) fn check_file_size(bytes: u64) -> Result<()> {
    if bytes > MAX_FILE_BYTES {
        bail!(
            "the file has {} or more, above the limit of {} for a picture: make it smaller",
            megabytes(bytes),
            megabytes(MAX_FILE_BYTES)
        );
    }
    Ok(())
}

/// The limit of memory. `about` is what the picture is, in words.
pub(super) fn check_memory(bytes: u64, about: &str) -> Result<()> {
    if bytes > MAX_DECODE_BYTES {
        bail!(
            "{about} takes {} of memory to decode, above the limit of {} for a picture: make it smaller, or save it as an \
             8-bit PNG or a baseline JPEG",
            megabytes(bytes),
            megabytes(MAX_DECODE_BYTES)
        );
    }
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
