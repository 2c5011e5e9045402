//! The art-Inception features of a run's pictures, kept so that FID needs no picture twice: not when
//! a run continues, and not when shards are merged.
//!
//! While a run goes on each batch adds a file `features/N.safetensors`; at the end they become one,
//! `features/all.safetensors`. Tensors are called `STRATEGY/ID` and have shape `[features]`; those of
//! the style pictures are `style/NUMBER`, in `features/style.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::runtime::write_whole;

const ALL: &str = "all.safetensors";
const STYLE: &str = "style.safetensors";

/// Features by name (`STRATEGY/ID`).
pub type Features = BTreeMap<String, Vec<f32>>;

/// The name of a picture's feature.
pub fn key(strategy: &str, id: &str) -> String {
    format!("{strategy}/{id}")
}

/// The folder `features/` of a run.
#[derive(Debug, Clone)]
pub struct FeatureStore {
    dir: PathBuf,
    next: usize,
}

impl FeatureStore {
    /// Opens the folder, making it where it is missing, and reads what an earlier run left.
    pub fn open(run: &Path) -> Result<(Self, Features)> {
        Self::at(&run.join("features"))
    }

    /// The same of any folder.
    pub fn at(dir: &Path) -> Result<(Self, Features)> {
        let dir = dir.to_path_buf();
        fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let mut features = Features::new();
        let mut next = 0;
        let all = dir.join(ALL);
        if all.exists() {
            features.extend(read(&all)?);
        }
        // Single batches are younger than the whole.
        for (number, path) in parts(&dir)? {
            next = next.max(number + 1);
            features.extend(read(&path)?);
        }
        Ok((Self { dir, next }, features))
    }

    /// Adds the features of a batch.
    pub fn add(&mut self, features: &Features) -> Result<()> {
        let path = self.dir.join(format!("{:06}.safetensors", self.next));
        self.next += 1;
        write(&path, features)
    }

    /// Makes one file of all.
    pub fn join(&self, features: &Features) -> Result<()> {
        write(&self.dir.join(ALL), features)?;
        for (_, path) in parts(&self.dir)? {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// The features of the style pictures, one row each.
    pub fn style(&self) -> Result<Option<Vec<Vec<f32>>>> {
        let path = self.dir.join(STYLE);
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(read(&path)?.into_values().collect()))
    }

    pub fn write_style(&self, rows: &[Vec<f32>]) -> Result<()> {
        let named = rows.iter().enumerate().map(|(at, row)| (format!("style/{at:08}"), row.clone())).collect();
        write(&self.dir.join(STYLE), &named)
    }
}

/// The files of single batches, with their numbers.
fn parts(dir: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let list = || -> std::io::Result<Vec<(usize, PathBuf)>> {
        let mut parts = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if let Ok(number) = stem.parse() {
                parts.push((number, path));
            }
        }
        Ok(parts)
    };
    list().with_context(|| format!("cannot list {}", dir.display()))
}

fn write(path: &Path, features: &Features) -> Result<()> {
    let bytes: Vec<(&String, Vec<u8>)> =
        features.iter().map(|(name, row)| (name, row.iter().flat_map(|value| value.to_le_bytes()).collect())).collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, row) in &bytes {
        views.push((name.as_str(), TensorView::new(Dtype::F32, vec![row.len() / 4], row)?));
    }
    let data = safetensors::serialize(views, None)?;
    write_whole(path, |file| Ok(file.write_all(&data)?))
}

fn read(path: &Path) -> Result<Features> {
    let name = path.display();
    let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let tensors = SafeTensors::deserialize(&bytes).with_context(|| format!("cannot read {name}"))?;
    let mut features = Features::new();
    for (key, view) in tensors.iter() {
        if view.dtype() != Dtype::F32 || view.shape().len() != 1 {
            bail!("{name}: {key} is not a row of 32-bit numbers: remove the folder to compute the features again");
        }
        let (values, _) = view.data().as_chunks::<4>();
        features.insert(key.to_string(), values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
    }
    Ok(features)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(names: &[(&str, f32)]) -> Features {
        names.iter().map(|(name, value)| (name.to_string(), vec![*value, 0.1, -2.5])).collect()
    }

    #[test]
    fn parts_and_the_whole_hold_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, none) = FeatureStore::open(dir.path()).unwrap();
        assert!(none.is_empty() && store.style().unwrap().is_none());
        store.add(&some(&[("s/a", 1.0), ("s/b", 2.0)])).unwrap();
        store.add(&some(&[("t/a", 3.0)])).unwrap();
        let (store, read) = FeatureStore::open(dir.path()).unwrap();
        assert_eq!(read, some(&[("s/a", 1.0), ("s/b", 2.0), ("t/a", 3.0)]));
        store.join(&read).unwrap();
        let (mut store, joined) = FeatureStore::open(dir.path()).unwrap();
        assert_eq!(joined, read);
        assert_eq!(fs::read_dir(dir.path().join("features")).unwrap().count(), 1);
        store.add(&some(&[("t/b", 4.0)])).unwrap();
        assert_eq!(FeatureStore::open(dir.path()).unwrap().1.len(), 4);
    }

    #[test]
    fn style_rows_keep_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = FeatureStore::open(dir.path()).unwrap();
        let rows: Vec<Vec<f32>> = (0..120).map(|at| vec![at as f32; 3]).collect();
        store.write_style(&rows).unwrap();
        assert_eq!(store.style().unwrap().unwrap(), rows);
    }
}
