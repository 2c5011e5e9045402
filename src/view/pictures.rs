//! The pictures of a run, as they are and small.

use std::collections::{BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use image::codecs::jpeg::JpegEncoder;

use crate::images;
use crate::run::guard;

/// Longest side of a small picture, in pixels: as wide as the grid shows it, so that a browser scales nothing.
const SIDE: u32 = 190;
const QUALITY: u8 = 82;
/// Small pictures are kept up to so many bytes.
const KEPT: usize = 128 << 20;

/// Small pictures, each by its file and whether it is for a dense screen.
type Kept = HashMap<(String, bool), Bytes>;

/// The pictures that are served: those that the run's own table names, and no other file.
#[derive(Debug)]
pub struct Pictures {
    dir: PathBuf,
    files: BTreeSet<String>,
    /// With the bytes of all.
    small: Mutex<(usize, Kept)>,
}

impl Pictures {
    pub fn new(dir: &Path, files: BTreeSet<String>) -> Self {
        // As links name them.
        let plain =
            |file: String| file.split('/').filter(|part| !["", "."].contains(part)).collect::<Vec<_>>().join("/");
        Self { dir: dir.to_path_buf(), files: files.into_iter().map(plain).collect(), small: Mutex::default() }
    }

    /// The picture that is asked for so, if it is one of the run.
    pub fn named(&self, file: &str) -> Option<String> {
        self.files.get(file).cloned()
    }

    /// A picture as it is on disk.
    pub fn whole(&self, file: &str) -> Result<Vec<u8>> {
        let path = guard::inside(&self.dir, file)?;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let opened = options.open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let size = opened.metadata().map(|found| if found.is_file() { found.len() } else { u64::MAX });
        if size.is_ok_and(|size| size > images::MAX_FILE_BYTES) {
            bail!("{} is no picture file", path.display());
        }
        let mut bytes = Vec::new();
        opened.take(images::MAX_FILE_BYTES).read_to_end(&mut bytes).with_context(|| format!("reading {file}"))?;
        Ok(bytes)
    }

    /// A picture as a small JPEG; twice as large for a `dense` screen.
    pub fn small(&self, file: &str, dense: bool) -> Result<Bytes> {
        let key = (file.to_string(), dense);
        if let Some(known) = self.kept().1.get(&key) {
            return Ok(known.clone());
        }
        let side = if dense { 2 * SIDE } else { SIDE };
        let picture = images::thumbnail(&images::decode(&self.whole(file)?)?, side);
        let mut bytes = Vec::new();
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
        let bytes = Bytes::from(bytes);
        let mut kept = self.kept();
        if kept.0 + bytes.len() > KEPT {
            *kept = Default::default();
        }
        kept.0 += bytes.len();
        kept.1.insert(key, bytes.clone());
        Ok(bytes)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, (usize, Kept)> {
        self.small.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a picture's content says it is.
pub fn media_type(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, ..] => "image/jpeg",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => "application/octet-stream",
    }
}
