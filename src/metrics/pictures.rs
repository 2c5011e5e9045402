//! Folders and lists of pictures as batches for the metric networks.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use crate::images;

/// A batch that keeps both cores of a small machine busy and fits any GPU.
pub const DEFAULT_BATCH: usize = 16;

/// [batch, 3, height, width] in [0, 1], the channels of a pixel side by side in memory.
/// The pictures must be of one size.
pub fn pixels(pictures: &[RgbImage], device: Device, kind: Kind) -> Result<Tensor> {
    let Some(first) = pictures.first() else { bail!("a batch of no pictures") };
    let (width, height) = first.dimensions();
    let mut bytes = Vec::with_capacity(pictures.len() * first.as_raw().len());
    for picture in pictures {
        let (w, h) = picture.dimensions();
        ensure!((w, h) == (width, height), "pictures of one batch are {width}×{height} and {w}×{h}");
        bytes.extend_from_slice(picture.as_raw());
    }
    let batch = Tensor::from_slice(&bytes).view([pictures.len() as i64, height.into(), width.into(), 3]);
    Ok(batch.to_device(device).permute([0, 3, 1, 2]).to_kind(kind) / 255.0)
}

/// Pictures decoded ahead on all cores; every one must have the first one's size.
pub struct OneSize {
    pictures: images::Prefetch,
    first: Option<(PathBuf, (u32, u32))>,
    least: u32,
}

impl OneSize {
    /// `least` is the smallest width and height that the network takes.
    pub fn new(files: Vec<PathBuf>, batch: usize, least: u32) -> Self {
        Self { pictures: images::stream(files, 2 * batch), first: None, least }
    }

    /// The next pictures, at most `batch`; none at the end.
    pub fn next_batch(&mut self, batch: usize) -> Result<Vec<RgbImage>> {
        let mut pictures = Vec::with_capacity(batch);
        while pictures.len() < batch
            && let Some((path, picture)) = self.pictures.next()
        {
            let picture = picture?;
            self.check(path, picture.dimensions())?;
            pictures.push(picture);
        }
        Ok(pictures)
    }

    fn check(&mut self, path: PathBuf, (width, height): (u32, u32)) -> Result<()> {
        match &self.first {
            Some((first, (w, h))) if (*w, *h) != (width, height) => bail!(
                "{} is {width}×{height}, but {} is {w}×{h}: pictures that are compared must all be of one size",
                path.display(),
                first.display()
            ),
            Some(_) => Ok(()),
            None => {
                if width.min(height) < self.least {
                    bail!(
                        "{} is {width}×{height}: too small for this network (at least {least}×{least})",
                        path.display(),
                        least = self.least
                    );
                }
                self.first = Some((path, (width, height)));
                Ok(())
            }
        }
    }
}

/// A content picture and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub content: PathBuf,
    pub stylized: PathBuf,
    /// Unique within the folder: the stem of `stylized`, or its name where stems repeat.
    pub id: String,
}

/// Pairs the pictures of two folders: by file stem when both have the same ones, else by position in
/// name order (as art-fid does). Folders of unequal counts are an error.
pub fn pairs(content: &Path, stylized: &Path) -> Result<Vec<Pair>> {
    let (contents, stylizeds) = (images::list(content)?, images::list(stylized)?);
    if contents.len() != stylizeds.len() {
        bail!(
            "{} has {} pictures and {} has {}: every content picture needs its stylized one",
            content.display(),
            contents.len(),
            stylized.display(),
            stylizeds.len()
        );
    }
    let by_stem = |files: &[PathBuf]| -> BTreeMap<OsString, PathBuf> {
        files.iter().map(|file| (file.file_stem().unwrap_or_default().to_os_string(), file.clone())).collect()
    };
    let (content_stems, stylized_stems) = (by_stem(&contents), by_stem(&stylizeds));
    let unique = stylized_stems.len() == stylizeds.len();
    let same = unique && content_stems.len() == contents.len() && content_stems.keys().eq(stylized_stems.keys());
    if !same {
        tracing::info!("content and stylized pictures have different names: paired by position in name order");
    }
    let ordered = |files: Vec<PathBuf>, stems: BTreeMap<OsString, PathBuf>| {
        if same { stems.into_values().collect() } else { files }
    };
    let contents: Vec<PathBuf> = ordered(contents, content_stems);
    let stylizeds: Vec<PathBuf> = ordered(stylizeds, stylized_stems);
    let pair = |(content, stylized): (PathBuf, PathBuf)| {
        let name = if unique { stylized.file_stem() } else { stylized.file_name() };
        Pair { id: name.unwrap_or_default().to_string_lossy().into_owned(), content, stylized }
    };
    let pairs: Vec<Pair> = contents.into_iter().zip(stylizeds).map(pair).collect();
    debug_assert_eq!(pairs.iter().map(|pair| &pair.id).collect::<BTreeSet<_>>().len(), pairs.len());
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        dir
    }

    fn names(pairs: &[Pair]) -> Vec<(String, String, &str)> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        pairs.iter().map(|pair| (name(&pair.content), name(&pair.stylized), pair.id.as_str())).collect()
    }

    #[test]
    fn pairs_are_by_stem_when_the_names_allow() {
        // In name order, "a.png" comes after "a-2.jpg", but "a.jpg" before "a1.png".
        let (content, stylized) = (folder(&["b.png", "a.png", "a-2.jpg"]), folder(&["a.jpg", "a-2.png", "b.jpg"]));
        let found = pairs(content.path(), stylized.path()).unwrap();
        let expected = [("a.png", "a.jpg", "a"), ("a-2.jpg", "a-2.png", "a-2"), ("b.png", "b.jpg", "b")];
        assert_eq!(names(&found), expected.map(|(c, s, id)| (c.to_string(), s.to_string(), id)));
    }

    #[test]
    fn other_names_pair_by_position() {
        let (content, stylized) = (folder(&["p2.png", "p1.png"]), folder(&["s.jpg", "s.png"]));
        let found = pairs(content.path(), stylized.path()).unwrap();
        let expected = [("p1.png", "s.jpg", "s.jpg"), ("p2.png", "s.png", "s.png")];
        assert_eq!(names(&found), expected.map(|(c, s, id)| (c.to_string(), s.to_string(), id)));
    }

    #[test]
    fn unequal_counts_name_both_folders() {
        let (content, stylized) = (folder(&["a.png", "b.png"]), folder(&["a.png"]));
        let error = pairs(content.path(), stylized.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("{} has 2 pictures", content.path().display())), "{error}");
        assert!(error.contains(&format!("{} has 1", stylized.path().display())), "{error}");
    }

    #[test]
    fn pixels_are_in_zero_to_one_and_channels_first() {
        let picture = RgbImage::from_fn(2, 1, |x, _| image::Rgb([0, 255, 51 * x as u8]));
        let batch = pixels(&[picture.clone(), picture], Device::Cpu, Kind::Float).unwrap();
        assert_eq!(batch.size(), [2, 3, 1, 2]);
        let values = Vec::<f32>::try_from(batch.select(0, 1).contiguous().view([-1])).unwrap();
        assert_eq!(values, [0.0, 0.0, 1.0, 1.0, 0.0, 51.0 / 255.0]);
    }
}
