//! Folders and lists of pictures as batches for the metric networks.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::images::faces::FaceSearch;
use crate::images::{self, Filter, Fit, Same, is_shape};
use crate::nn::wants_channels_first;
use crate::runtime::{Background, catch_panics, free_memory, shim};

/// A batch that keeps both cores of a small machine busy.
const CPU_BATCH: usize = 16;
/// A batch of pictures of 224×224 that fills any GPU; of larger ones fewer, for their memory.
const GPU_BATCH: usize = 256;
const GPU_BATCH_PIXELS: u64 = GPU_BATCH as u64 * 224 * 224;
/// Device memory that the networks take for a pixel of a picture (or a pair of them), rounded up generously.
const GPU_BYTES_PER_PIXEL: u64 = 512;
/// The size at which networks mostly see pictures that they resize.
const USUAL: (u32, u32) = (224, 224);
/// Main memory for pictures that are decoded before a GPU asks for them.
const GPU_AHEAD_BYTES: u64 = 1 << 30;

/// [batch, 3, height, width] in [0, 1], the channels of a pixel side by side in memory but for float32 on CUDA.
/// The pictures must be of one size.
pub fn pixels(pictures: &[RgbImage], device: Device, kind: Kind) -> Result<Tensor> {
    to_pixels(&bytes(pictures.iter(), pictures.len())?, device, kind)
}

/// Pictures of one size beside each other: uint8 [rows, height, width, 3]. Rows beyond the pictures are
/// black.
fn bytes<'a>(mut pictures: impl Iterator<Item = &'a RgbImage>, rows: usize) -> Result<Tensor> {
    let first = pictures.next().context("a batch of no pictures")?;
    let (width, height) = first.dimensions();
    let size = first.as_raw().len();
    let mut bytes = Vec::with_capacity(rows * size);
    bytes.extend_from_slice(first.as_raw());
    for picture in pictures {
        let (w, h) = picture.dimensions();
        ensure!((w, h) == (width, height), "pictures of one batch are {width}×{height} and {w}×{h}");
        bytes.extend_from_slice(picture.as_raw());
    }
    bytes.resize(rows * size, 0);
    let (width, height) = (i64::from(width), i64::from(height));
    let strides = [size as i64, 3 * width, 3, 1];
    shim::tensor_over_map(Arc::new(bytes), 0, &[rows as i64, height, width, 3], &strides, Kind::Uint8)
}

/// What [`pixels`] gives, of [`bytes`]. Does not wait for the device where the bytes are pinned.
fn to_pixels(bytes: &Tensor, device: Device, kind: Kind) -> Result<Tensor> {
    let there = if device == Device::Cpu {
        bytes.shallow_clone()
    } else {
        bytes.f_internal_to_copy((Kind::Uint8, device), true)?
    };
    let channels_first = there.permute([0, 3, 1, 2]);
    // As the networks want them laid out there.
    let laid_out = if wants_channels_first(device, kind) { channels_first.contiguous() } else { channels_first };
    Ok(laid_out.to_kind(kind) / 255.0)
}

/// How pictures of any sizes become squares of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Square {
    pub side: u32,
    pub fit: Fit,
    /// Pictures in which a face was looked for in vain.
    #[serde(skip)]
    without_face: Arc<AtomicUsize>,
}

impl Square {
    pub fn new(side: u32, fit: Fit) -> Self {
        Self { side, fit, without_face: Arc::default() }
    }

    fn size(&self) -> (u32, u32) {
        (self.side, self.side)
    }

    /// In how many pictures a face was looked for in vain up to now; their middle is taken.
    pub fn without_face(&self) -> usize {
        self.without_face.load(Ordering::Relaxed)
    }

    /// The same, counted from here on again.
    pub fn take_without_face(&self) -> usize {
        self.without_face.swap(0, Ordering::Relaxed)
    }

    /// Counts pictures of another process.
    pub fn add_without_face(&self, count: usize) {
        self.without_face.fetch_add(count, Ordering::Relaxed);
    }

    /// A picture as such a square; `beside`, of a picture that was made of another one, is that one: where both have one
    /// shape, the same part is seen of both.
    fn of(&self, picture: &RgbImage, beside: Option<&Path>) -> Result<RgbImage> {
        let shape = (1, 1);
        let needs_face = self.fit == Fit::Face && !is_shape(picture.dimensions(), shape);
        let original = beside.filter(|_| needs_face).map(images::load).transpose()?;
        let original = original.filter(|original| is_shape(original.dimensions(), picture.dimensions()));
        let face = match &original {
            Some(original) => {
                let face = self.fit.look_for_face(original, shape).and_then(FaceSearch::face);
                face.map(|face| face.scaled(f64::from(picture.width()) / f64::from(original.width())))
            }
            None => self.fit.look_for_face(picture, shape).and_then(FaceSearch::face),
        };
        if needs_face && face.is_none() {
            self.without_face.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.fit.apply(picture, shape, self.size(), Filter::Bicubic, face.as_ref()))
    }
}

/// Two pictures that are to be compared have different sizes.
#[derive(Debug, thiserror::Error)]
#[error("{other} is {}×{}, but {first} is {}×{}: pictures that are compared must all be of one size", .sizes[1].0, .sizes[1].1, .sizes[0].0, .sizes[0].1)]
pub struct SizesDiffer {
    first: String,
    other: String,
    sizes: [(u32, u32); 2],
}

/// The one size that pictures of a comparison have.
struct OneSize {
    /// Smallest width and height that the network takes.
    least: u32,
    first: Option<(PathBuf, (u32, u32))>,
}

impl OneSize {
    fn check(&mut self, path: &Path, (width, height): (u32, u32)) -> Result<()> {
        match &self.first {
            Some((first, size)) if *size != (width, height) => bail!(SizesDiffer {
                first: first.display().to_string(),
                other: path.display().to_string(),
                sizes: [*size, (width, height)],
            }),
            Some(_) => Ok(()),
            None => {
                if width.min(height) < self.least {
                    bail!(
                        "{} is {width}×{height}: too small for this network (at least {least}×{least})",
                        path.display(),
                        least = self.least
                    );
                }
                self.first = Some((path.to_path_buf(), (width, height)));
                Ok(())
            }
        }
    }
}

/// Looks at the header of every picture, on all cores, before a network is loaded: that it can be read. Gives the sizes.
pub fn check_readable<P: AsRef<Path> + Sync>(files: &[P]) -> Result<Vec<(u32, u32)>> {
    let headers = images::probe_all(files);
    if let Some(broken) = images::broken(&headers) {
        bail!(broken);
    }
    Ok(headers.into_iter().flatten().map(|header| (header.width, header.height)).collect())
}

/// [`check_readable`], and that all are of one size, at least `least` wide and high.
///
/// # Errors
/// [`SizesDiffer`] among others.
pub fn check_headers<P: AsRef<Path> + Sync>(files: &[P], least: u32) -> Result<()> {
    let mut size = OneSize { least, first: None };
    let mut found = files.iter().zip(check_readable(files)?);
    found.try_for_each(|(file, found)| size.check(file.as_ref(), found))
}

/// As a square, where one is asked for.
fn squared(square: Option<&Square>, picture: RgbImage, beside: Option<&Path>) -> Result<RgbImage> {
    match square {
        Some(square) => square.of(&picture, beside),
        None => Ok(picture),
    }
}

/// Picture files that are being decoded ahead on all cores; every one must have the first one's size.
pub struct Decoding {
    pictures: images::Prefetch,
    /// 2 where content and stylized pictures take turns, else 1.
    sets: usize,
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
    fn take(&mut self, count: usize) -> Result<Vec<RgbImage>> {
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

    /// Batches of at most `most` pictures of each set (default: what suits the device).
    pub fn batches(self, most: Option<usize>, device: Device, kind: Kind) -> Batches {
        self.laid_out(most, None, device, kind)
    }

    /// The same of some of `all` pictures (or pairs): batches as large as those of all, a last one that is smaller filled
    /// up on a GPU.
    pub fn batches_of(self, all: usize, most: Option<usize>, device: Device, kind: Kind) -> Batches {
        self.laid_out(most, Some(all), device, kind)
    }

    fn laid_out(self, most: Option<usize>, all: Option<usize>, device: Device, kind: Kind) -> Batches {
        // One waits, one is being laid out, one is on the device.
        let (sender, receiver) = sync_channel(1);
        let layout = Background::start(move || {
            let mut layout = Layout { pictures: self, most, all, device, rows: None };
            // Ends with the pictures, after an error, and when nobody takes batches any more.
            while let Some(batch) = catch_panics(|| layout.next()).transpose() {
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Batches { receiver, _layout: layout, device, kind }
    }
}

/// Lays decoded pictures out as batches, in a thread of its own.
struct Layout {
    pictures: Decoding,
    most: Option<usize>,
    /// Pictures of each set that these are some of, where they are not all.
    all: Option<usize>,
    device: Device,
    /// Pictures of each set in a batch, once the first picture is there.
    rows: Option<usize>,
}

impl Layout {
    fn next(&mut self) -> Result<Option<Laid>> {
        let (sets, mut pictures) = (self.pictures.sets, Vec::new());
        let rows = match self.rows {
            Some(rows) => rows,
            None => {
                let all = self.all.unwrap_or(self.pictures.pictures.len() / sets);
                pictures = self.pictures.take(1)?;
                let Some(first) = pictures.first() else { return Ok(None) };
                *self.rows.insert(self.rows(all, first.dimensions()))
            }
        };
        pictures.extend(self.pictures.take(sets * rows - pictures.len())?);
        let count = pictures.len() / sets;
        if count == 0 {
            return Ok(None);
        }
        let in_order = (0..sets).flat_map(|set| pictures.iter().skip(set).step_by(sets));
        if self.device == Device::Cpu {
            return Ok(Some(Laid { bytes: bytes(in_order, sets * count)?, count, rows: count }));
        }
        // cuDNN chooses its kernels for each size of batch anew, so that the last batch is filled up.
        let bytes = bytes(in_order, sets * rows)?;
        // The device fetches from pinned memory by itself.
        let bytes = bytes.f_internal_pin_memory(self.device).unwrap_or(bytes);
        Ok(Some(Laid { bytes, count, rows }))
    }

    fn rows(&self, all: usize, size: (u32, u32)) -> usize {
        rows(self.most, all, size, self.device, free_memory(self.device))
    }
}

/// Pictures of each set in a batch: at most `most`, or what suits the device with so many bytes of free memory, of
/// `all` pictures of this size.
pub fn rows(most: Option<usize>, all: usize, (width, height): (u32, u32), device: Device, free: Option<u64>) -> usize {
    if device == Device::Cpu {
        return most.unwrap_or(CPU_BATCH).max(1);
    }
    let pixels = u64::from(width) * u64::from(height);
    let filling = ((GPU_BATCH_PIXELS / pixels.max(1)) as usize).clamp(CPU_BATCH, GPU_BATCH);
    let room = free.map_or(u64::MAX, |free| free / GPU_BYTES_PER_PIXEL / pixels.max(1));
    let most = most.unwrap_or(filling.min(room as usize)).max(1);
    // Batches as equal as can be.
    all.max(1).div_ceil(all.max(1).div_ceil(most))
}

/// A batch before it is on the device.
struct Laid {
    bytes: Tensor,
    count: usize,
    rows: usize,
}

/// Pictures of one size, as batches on a device (see [`Decoding::batches`]).
pub struct Batches {
    // Goes before the thread, which ends when nobody listens.
    receiver: Receiver<Result<Laid>>,
    _layout: Background,
    device: Device,
    kind: Kind,
}

/// A batch on the device.
pub struct Batch {
    /// Of each set `count` pictures, then black ones: [sets · rows, 3, height, width] in [0, 1].
    pub pixels: Tensor,
    pub count: i64,
    pub rows: i64,
}

impl Batch {
    /// Pictures of this set (0 or 1), then others that fill the batch: [rows, 3, height, width].
    pub fn set(&self, set: i64) -> Tensor {
        self.pixels.narrow(0, set * self.count, self.rows)
    }

    /// Of a result for each row of [`Self::set`], what belongs to its pictures.
    pub fn cut(&self, result: &Tensor) -> Tensor {
        result.narrow(0, 0, self.count)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let on_device = |laid: Laid| {
            let pixels = to_pixels(&laid.bytes, self.device, self.kind)?;
            Ok(Batch { pixels, count: laid.count as i64, rows: laid.rows as i64 })
        };
        Some(self.receiver.recv().ok()?.and_then(on_device))
    }
}

/// A content picture and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub content: PathBuf,
    pub stylized: PathBuf,
    /// Unique within the folder: the one of `stylized` (see [`images::ids`]).
    pub id: String,
}

/// Pairs the pictures of two folders: by file stem when both have the same ones, else by position in
/// name order (as art-fid does). Folders of unequal counts are an error.
pub fn pairs(content: &Path, stylized: &Path) -> Result<Vec<Pair>> {
    let (contents, stylizeds) = (images::list(content)?, images::list(stylized)?);
    let by_stem = |files: &[PathBuf]| -> BTreeMap<OsString, PathBuf> {
        files.iter().map(|file| (file.file_stem().unwrap_or_default().to_os_string(), file.clone())).collect()
    };
    let (content_stems, stylized_stems) = (by_stem(&contents), by_stem(&stylizeds));
    if contents.len() != stylizeds.len() {
        bail!(
            "{} has {} and {} has {}: every content picture needs its stylized one{}{}",
            content.display(),
            several(contents.len()),
            stylized.display(),
            several(stylizeds.len()),
            lacks(stylized, &content_stems, &stylized_stems),
            lacks(content, &stylized_stems, &content_stems)
        );
    }
    let unique = content_stems.len() == contents.len() && stylized_stems.len() == stylizeds.len();
    let same = unique && content_stems.keys().eq(stylized_stems.keys());
    if !same {
        tracing::info!("content and stylized pictures have different names: paired by position in name order");
    }
    let ordered = |files: Vec<PathBuf>, stems: BTreeMap<OsString, PathBuf>| {
        if same { stems.into_values().collect() } else { files }
    };
    let contents: Vec<PathBuf> = ordered(contents, content_stems);
    let stylizeds: Vec<PathBuf> = ordered(stylizeds, stylized_stems);
    let ids = images::ids(&stylizeds, Same::Exactly)?;
    let pairs = contents.into_iter().zip(stylizeds).zip(ids);
    Ok(pairs.map(|((content, stylized), id)| Pair { content, stylized, id }).collect())
}

/// `1 picture`, `2 pictures`.
pub fn several(count: usize) -> String {
    format!("{count} picture{}", if count == 1 { "" } else { "s" })
}

/// So many are named in a message.
const MOST_NAMES: usize = 10;

/// The names that a folder has no picture of, as the end of a message.
fn lacks(folder: &Path, wanted: &BTreeMap<OsString, PathBuf>, there: &BTreeMap<OsString, PathBuf>) -> String {
    let missing: Vec<&OsString> = wanted.keys().filter(|stem| !there.contains_key(*stem)).collect();
    if missing.is_empty() {
        return String::new();
    }
    let names: Vec<String> = missing.iter().take(MOST_NAMES).map(|stem| format!("{stem:?}")).collect();
    let more =
        if missing.len() > MOST_NAMES { format!(" and {} more", missing.len() - MOST_NAMES) } else { String::new() };
    format!("; {} lacks {}{more}", folder.display(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::acted_free;

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
        assert!(error.ends_with(&format!("; {} lacks \"b\"", stylized.path().display())), "{error}");
        let other = folder(&["z.png", "a.png", "y.jpg"]);
        let both = pairs(content.path(), other.path()).unwrap_err().to_string();
        assert!(both.contains("lacks \"b\"; ") && both.ends_with("lacks \"y\", \"z\""), "{both}");
        assert!(error.contains(&format!("{} has 2 pictures", content.path().display())), "{error}");
        assert!(error.contains(&format!("{} has 1", stylized.path().display())), "{error}");
    }

    /// Every picture once, in order, whatever the sizes of the batches.
    #[test]
    fn batches_hold_all_pictures_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let save = |name: String, value: u8| {
            let file = dir.path().join(name);
            RgbImage::from_pixel(4, 3, image::Rgb([value; 3])).save(&file).unwrap();
            file
        };
        let pair = |i: u8| {
            let (content, stylized) = (save(format!("c{i}.png"), i), save(format!("s{i}.png"), 100 + i));
            Pair { content, stylized, id: i.to_string() }
        };
        let pairs: Vec<Pair> = (0..5).map(pair).collect();
        let value = |pixels: &Tensor, row| (pixels.double_value(&[row, 0, 0, 0]) * 255.0).round() as u8;
        for (for_gpu, most) in [(false, 1), (true, 2), (false, 5), (true, 9)] {
            let (mut content, mut stylized) = (Vec::new(), Vec::new());
            for batch in Decoding::pairs(&pairs, 1, None, for_gpu).batches(Some(most), Device::Cpu, Kind::Float) {
                let batch = batch.unwrap();
                assert!(batch.count <= most as i64 && batch.rows == batch.count);
                content.extend((0..batch.count).map(|row| value(&batch.cut(&batch.set(0)), row)));
                stylized.extend((0..batch.count).map(|row| value(&batch.cut(&batch.set(1)), row)));
            }
            assert_eq!(content, [0, 1, 2, 3, 4]);
            assert_eq!(stylized, [100, 101, 102, 103, 104]);
        }
    }

    #[test]
    fn batches_on_a_gpu_are_equal_and_fit_its_memory() {
        let layout = |most| Layout {
            pictures: Decoding::files(Vec::new(), 1, None, true),
            most,
            all: None,
            device: Device::Cuda(0),
            rows: None,
        };
        assert_eq!(layout(None).rows(5000, (224, 224)), 250);
        assert_eq!(layout(None).rows(3, (224, 224)), 3);
        assert_eq!(layout(None).rows(5000, (1024, 1024)), 16);
        assert_eq!(layout(Some(100)).rows(250, (224, 224)), 84);
        acted_free(Some(2 << 30));
        assert_eq!(layout(None).rows(5000, (224, 224)), 82, "little memory is free");
        assert_eq!(layout(None).rows(5000, (1024, 1024)), 4);
        assert_eq!(layout(Some(100)).rows(250, (224, 224)), 84);
        acted_free(None);
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
