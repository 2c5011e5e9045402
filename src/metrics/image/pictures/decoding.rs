//! Picture files, decoded ahead.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use image::RgbImage;

use super::pairs::Pair;
use super::sizes::OneSize;
use super::square::{Square, squared};
use crate::images::{self, Fit};

/// A batch that keeps both cores of a small machine busy.
pub(super) const CPU_BATCH: usize = 16;
/// The size at which networks mostly see pictures that they resize.
const USUAL: (u32, u32) = (224, 224);
/// Main memory for pictures that are decoded before a GPU asks for them.
const GPU_AHEAD_BYTES: u64 = 1 << 30;

/// Picture files that are being decoded ahead on all cores; every one must have the first one's size.
pub struct Decoding {
    pub(super) pictures: images::Prefetch,
    /// 2 where content and stylized pictures take turns, else 1.
    pub(super) sets: usize,
    size: OneSize,
}

impl Decoding {
    /// Starts with these files. `least` is the smallest width and height that the network takes; for a
    /// GPU (`for_gpu`), which takes pictures faster than they come, many more are decoded ahead, from
    /// before it is ready.
    pub fn files(files: Vec<PathBuf>, least: u32, square: Option<&Square>, for_gpu: bool) -> Self {
        let square = square.cloned();
        let waiting = square.as_ref().map(Square::size);
        Self::new(files, (1, least), waiting, for_gpu, move |_, picture| squared(square.as_ref(), picture, None))
    }

    /// The same of pictures of any sizes, which `prepare` brings to one as they are decoded, from squares where these are
    /// asked for.
    pub fn prepared(
        files: Vec<PathBuf>,
        square: Option<&Square>,
        for_gpu: bool,
        prepare: impl Fn(RgbImage) -> Result<RgbImage> + Send + Sync + 'static,
    ) -> Self {
        let square = square.cloned();
        let prepare = move |_: &PathBuf, picture| prepare(squared(square.as_ref(), picture, None)?);
        Self::new(files, (1, 1), Some(USUAL), for_gpu, prepare)
    }

    /// The same with the pictures of pairs.
    pub fn pairs(pairs: &[Pair], least: u32, square: Option<&Square>, for_gpu: bool) -> Self {
        let files = pairs.iter().flat_map(|pair| [pair.content.clone(), pair.stylized.clone()]).collect();
        let square = square.cloned();
        let waiting = square.as_ref().map(Square::size);
        let originals: HashMap<PathBuf, PathBuf> = match square.as_ref().map(|square| square.fit) {
            Some(Fit::Face) => pairs.iter().map(|pair| (pair.stylized.clone(), pair.content.clone())).collect(),
            _ => HashMap::new(),
        };
        let prepare =
            move |file: &PathBuf, picture| squared(square.as_ref(), picture, originals.get(file).map(PathBuf::as_path));
        Self::new(files, (2, least), waiting, for_gpu, prepare)
    }

    /// `waiting` is the size of the pictures that wait; None: that of the first file.
    fn new(
        files: Vec<PathBuf>,
        (sets, least): (usize, u32),
        waiting: Option<(u32, u32)>,
        for_gpu: bool,
        prepare: impl Fn(&PathBuf, RgbImage) -> Result<RgbImage> + Send + Sync + 'static,
    ) -> Self {
        let mut ahead = 2 * sets * CPU_BATCH;
        let waiting = || waiting.or_else(|| images::size(files.first()?).ok());
        if for_gpu && let Some((width, height)) = waiting() {
            let bytes = 3 * u64::from(width) * u64::from(height);
            ahead = ahead.max((GPU_AHEAD_BYTES / bytes.max(1)) as usize);
        }
        let load = move |file: &PathBuf| {
            let prepared = prepare(file, images::load(file)?);
            prepared.with_context(|| format!("cannot prepare picture {}", file.display()))
        };
        Self { pictures: images::stream_with(files, ahead, load), sets, size: OneSize { least, first: None } }
    }

    /// The next pictures, at most `count`; none at the end.
    pub(super) fn take(&mut self, count: usize) -> Result<Vec<RgbImage>> {
        let mut pictures = Vec::new();
        while pictures.len() < count
            && let Some((path, picture)) = self.pictures.next()
        {
            let picture = picture?;
            self.size.check(&path, picture.dimensions())?;
            pictures.push(picture);
        }
        Ok(pictures)
    }
}
