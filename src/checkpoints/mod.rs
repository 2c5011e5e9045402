//! Checkpoint files as named tensors: opened by memory map, cast on load, strict.
//!
//! [`Checkpoint`] is a set of files; [`Weights`] is a place inside it that models are built from.

mod safetensors;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

pub use weights::Weights;

/// One tensor of a checkpoint, described but not read.
#[derive(Debug, Clone)]
pub struct Entry {
    pub shape: Vec<i64>,
    pub kind: Kind,
    /// The file it is in, for error messages.
    pub file: Arc<PathBuf>,
    /// First byte and length inside `file`.
    pub range: std::ops::Range<usize>,
    /// Distances between elements, in elements; None = row-major and dense.
    pub strides: Option<Vec<i64>>,
}

/// Names → tensors of one or several files. Nothing is read before it is asked for.
#[derive(Debug, Default)]
pub struct Checkpoint {
    entries: BTreeMap<String, Entry>,
    maps: BTreeMap<PathBuf, Arc<memmap2::Mmap>>,
}

impl Checkpoint {
    /// Opens these files together; a name that is in two of them is an error.
    pub fn open<P: AsRef<Path>>(files: &[P]) -> Result<Self> {
        let mut all = Self::default();
        for file in files {
            let file = file.as_ref();
            let (map, entries) = safetensors::open(file).with_context(|| format!("reading {}", file.display()))?;
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
    /// the `.fp16` variants, or `.bin` under the same or PyTorch's name. `stem` is `model` for
    /// transformers and `diffusion_pytorch_model` for diffusers.
    pub fn open_dir(dir: &Path, stem: &str) -> Result<Self> {
        let single = dir.join(format!("{stem}.safetensors"));
        if single.exists() {
            return Self::open(&[single]);
        }
        bail!("{}: no {stem}.safetensors here: is this a model folder?", dir.display())
    }

    /// Every name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
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

    /// Reads one tensor onto `device` as `kind` (integer tensors keep their own kind). On the CPU,
    /// when the kinds agree, the tensor *is* the mapped file: no copy is made.
    fn read(&self, name: &str, device: Device, kind: Kind) -> Result<Tensor> {
        let entry = &self.entries[name];
        let map = &self.maps[entry.file.as_path()];
        safetensors::tensor(map, entry, device, kind)
            .with_context(|| format!("{}: reading tensor {name}", entry.file.display()))
    }

    /// The root from which a model is built.
    pub fn weights(self, device: Device, kind: Kind) -> Weights {
        Weights::from_checkpoint(self, device, kind)
    }
}
