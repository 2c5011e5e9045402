//! Checkpoint files as named tensors: opened by memory map, cast on load, strict.
//!
//! [`Checkpoint`] is a set of files; [`Weights`] is a place inside it that models are built from.
//! Three formats are told apart by content, never by name: safetensors, and PyTorch's pickles in
//! the zip and in the legacy container. Nothing that a pickle holds is ever executed.

pub mod config;
mod finite;
mod folder;
mod foreign;
mod misfits;
mod pickle;
mod places;
mod read;
mod readers;
mod safetensors;
pub mod staging;
mod view;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use self::finite::Scan;
use self::pickle::Sums;
use self::staging::{Sent, Staging, Target};
use crate::runtime::MappedFile;

pub use finite::is_finite;
pub use folder::{files_of_dir, is_index, no_weights, shards_of_index, weights_name};
pub use misfits::list;
pub use places::{Place, Places};
pub use view::View;
pub use weights::Weights;

/// One tensor of a checkpoint, described but not read.
#[derive(Debug, Clone)]
pub struct Entry {
    pub shape: Vec<i64>,
    pub kind: Kind,
    /// The file it is in, for error messages.
    pub file: Arc<PathBuf>,
    /// The bytes inside `file` from the first element to the last one.
    pub range: std::ops::Range<usize>,
    /// Distances between elements, in elements; None = row-major and dense.
    pub strides: Option<Vec<i64>>,
    pub view: View,
}

impl Entry {
    /// Elements; the formats' readers have checked that this does not overflow.
    pub fn len(&self) -> i64 {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Names → tensors of one or several files. Nothing is read before it is asked for.
#[derive(Debug, Default)]
pub struct Checkpoint {
    entries: BTreeMap<String, Entry>,
    maps: BTreeMap<PathBuf, Arc<MappedFile>>,
}

impl Checkpoint {
    /// Opens these files together; a name that is in two of them is an error.
    pub fn open<P: AsRef<Path>>(files: &[P]) -> Result<Self> {
        let mut all = Self::default();
        for file in files {
            let file = file.as_ref();
            let (map, entries) = open_file(file).with_context(|| format!("reading {}", file.display()))?;
            for (name, entry) in entries {
                if all.entries.insert(name.clone(), entry).is_some() {
                    bail!("{}: tensor {name} is in another file of this checkpoint too", file.display());
                }
            }
            all.maps.insert(file.to_path_buf(), map);
        }
        Ok(all)
    }

    /// Opens the weights of a model folder: `stem.safetensors`, sharded `stem.safetensors.index.json`,
    /// the `.fp16` and `.bf16` variants, or `.bin` under the same or PyTorch's name. `stem` is `model` for
    /// transformers and `diffusion_pytorch_model` for diffusers.
    pub fn open_dir(dir: &Path, stem: &str) -> Result<Self> {
        Self::open(&files_of_dir(dir, stem)?)
    }

    /// This checkpoint and another one together; a name that both have is an error.
    pub fn and(mut self, other: Self) -> Result<Self> {
        for (name, entry) in other.entries {
            if let Some(there) = self.entries.get(&name) {
                bail!("{}: tensor {name} is in {} too", entry.file.display(), there.file.display());
            }
            self.entries.insert(name, entry);
        }
        self.maps.extend(other.maps);
        Ok(self)
    }

    /// This checkpoint with one more tensor, in the place of one of the same name.
    pub fn with(mut self, name: &str, entry: Entry) -> Self {
        self.entries.insert(name.to_string(), entry);
        self
    }

    /// Every name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The files that were opened, sorted.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.maps.keys().map(PathBuf::as_path)
    }

    /// What the writer of the files noted beside the tensors, in safetensors alone.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.maps.values().filter(|map| !pickle::is_zip(map)).flat_map(|map| safetensors::metadata(map)).collect()
    }

    /// Gives tensors other names (a key map); `None` drops the tensor.
    pub fn rename(mut self, new_name: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut renamed = BTreeMap::new();
        for (name, entry) in std::mem::take(&mut self.entries) {
            if let Some(to) = new_name(&name)
                && let Some(previous) = renamed.insert(to.clone(), entry)
            {
                bail!("{}: two tensors would both be called {to}", previous.file.display());
            }
        }
        self.entries = renamed;
        Ok(self)
    }

    /// Gives each tensor new names, each with the tensor itself or a view of it (see [`View`]): a key map
    /// that may split tensors. Without a name, a tensor is dropped.
    pub fn convert(mut self, views: impl Fn(&str, Entry) -> Result<Vec<(String, Entry)>>) -> Result<Self> {
        let mut converted = BTreeMap::new();
        for (name, entry) in std::mem::take(&mut self.entries) {
            for (to, view) in views(&name, entry)? {
                if let Some(previous) = converted.insert(to.clone(), view) {
                    bail!("{}: two tensors would both be called {to}", previous.file.display());
                }
            }
        }
        self.entries = converted;
        Ok(self)
    }

    /// Only the tensors under `prefix.`, without it: one of several dictionaries in a pickle, or one
    /// network of a single-file pipeline.
    pub fn below(self, prefix: &str) -> Result<Self> {
        let start = format!("{prefix}.");
        self.rename(|name| name.strip_prefix(&start).map(str::to_string))
    }

    /// Compares the bytes of every file in the zip container with the CRC-32 that it carries; the number of files that
    /// were compared. (torch writes the sums and does not compare them; loading maps the files and does not either.)
    pub fn check_sums(&self) -> Result<usize> {
        let mut compared = 0;
        for (path, map) in &self.maps {
            let (member, range) = match pickle::compare_sums(map).with_context(|| path.display().to_string())? {
                Sums::Absent => continue,
                Sums::Equal => {
                    compared += 1;
                    continue;
                }
                Sums::Differ(member, range) => (member, range),
            };
            let inside = |entry: &Entry| *entry.file == *path && range.contains(&entry.range.start);
            let tensor = self.entries.iter().find(|(_, entry)| inside(entry) && !entry.is_empty());
            let of = tensor.map(|(name, _)| format!(", which holds tensor {name},")).unwrap_or_default();
            bail!(
                "{}: its part {}{of} is not what was written (its CRC-32 differs): a broken download or disk? Download \
                 or copy it again",
                path.display(),
                member.escape_debug()
            );
        }
        Ok(compared)
    }

    /// Reads one tensor onto `device` as `kind` (integer tensors keep their own kind); it is contiguous. On
    /// the CPU, when the kinds agree and it is stored row by row, the tensor *is* the mapped file: no copy
    /// is made. Writing into it changes this process's view of the file only, never the file. To a GPU it is
    /// copied without waiting: work that is asked for later finds the numbers there.
    pub fn read(&self, name: &str, device: Device, kind: Kind) -> Result<Tensor> {
        let (tensor, sent) = self.begin(name, device, kind, None)?;
        self.end(name, sent)?;
        Ok(tensor)
    }

    /// The same without waiting for the file either: the device waits for it. [`Self::end`] says whether it was read, and
    /// whether `scan` agrees with all that was, where the device can wait.
    fn begin(&self, name: &str, device: Device, kind: Kind, scan: Option<Scan>) -> Result<(Tensor, Sent)> {
        if let Device::Cuda(index) = device
            && let Some(begun) = staging::with_ring(index, |ring| self.begin_staged(name, device, kind, scan, ring))
        {
            return begun;
        }
        self.read_with(name, device, kind, |file, entry| {
            Ok((read::tensor(file, entry, device, kind)?, Sent::default()))
        })
    }

    /// Waits until the file was read for a tensor that [`Self::begin`] gave.
    ///
    /// # Errors
    /// Where it could not be read: the tensor is of no use.
    fn end(&self, name: &str, sent: Sent) -> Result<()> {
        let explained = || {
            let file = self.entries.get(name).map(|entry| entry.file.display().to_string()).unwrap_or_default();
            format!("{file}: reading tensor {name}")
        };
        sent.read().map_err(read::explained).with_context(explained)
    }

    /// [`Self::read`] through a ring of buffers that belongs to `device`.
    pub fn read_staged<T: Target>(
        &self,
        name: &str,
        device: Device,
        kind: Kind,
        ring: &mut Staging<T>,
    ) -> Result<Tensor> {
        let (tensor, sent) = self.begin_staged(name, device, kind, None, ring)?;
        self.end(name, sent)?;
        Ok(tensor)
    }

    fn begin_staged<T: Target>(
        &self,
        name: &str,
        device: Device,
        kind: Kind,
        scan: Option<Scan>,
        ring: &mut Staging<T>,
    ) -> Result<(Tensor, Sent)> {
        self.read_with(name, device, kind, |file, entry| read::staged(file, entry, device, kind, scan, ring))
    }

    fn read_with(
        &self,
        name: &str,
        device: Device,
        kind: Kind,
        stored: impl FnOnce(&Arc<MappedFile>, &Entry) -> Result<(Tensor, Sent)>,
    ) -> Result<(Tensor, Sent)> {
        let Some(entry) = self.entries.get(name) else { bail!("tensor {name} is missing") };
        let file = &self.maps[entry.file.as_path()];
        let mut sent = Sent::default();
        let tensor = view::apply(entry, device, kind, || {
            let (tensor, on_its_way) = stored(file, entry)?;
            sent = on_its_way;
            Ok(tensor)
        });
        Ok((tensor.with_context(|| format!("{}: reading tensor {name}", entry.file.display()))?, sent))
    }

    /// The root from which a model is built.
    pub fn weights(self, device: Device, kind: Kind) -> Weights {
        let files: Vec<Arc<MappedFile>> = self.maps.values().cloned().collect();
        // Only a hint: the disk reads ahead while the first layers are built. Of gigabytes that are in
        // memory already it takes a while to find that out.
        std::thread::spawn(move || files.iter().for_each(|file| file.read_ahead()));
        Weights::from_checkpoint(self, device, kind)
    }
}

type Entries = BTreeMap<String, Entry>;

/// Maps a file and reads what is in it.
fn open_file(path: &Path) -> Result<(Arc<MappedFile>, Entries)> {
    let map = MappedFile::open(path)?;
    if map.is_empty() {
        bail!("the file is empty: download or copy it again");
    }
    let shared = Arc::new(path.to_path_buf());
    let entries = if pickle::is_zip(&map) {
        pickle::open_zip(&map, &shared)?
    } else if pickle::is_legacy(&map) {
        pickle::open_legacy(&map, &shared)?
    } else {
        safetensors::open(&map, &shared).map_err(|error| foreign::explain(&map).unwrap_or(error))?
    };
    Ok((Arc::new(map), entries))
}
