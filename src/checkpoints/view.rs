//! Other shapes of stored tensors, without reading them: what one checkpoint layout calls one tensor
//! may be a part of one in another layout.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::Entry;
use super::read::dense_strides;

/// What is done with the stored numbers when they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    #[default]
    Stored,
    /// The second half of the rows comes first.
    HalvesSwapped,
    /// Nothing is stored: the identity matrix, which some layouts leave out.
    Identity,
}

impl Entry {
    /// Part `part` of `parts` equal parts of the rows.
    pub fn rows(&self, part: usize, parts: usize) -> Result<Self> {
        let rows = self.shape.first().copied().unwrap_or(0);
        if parts == 0 || part >= parts || rows % parts as i64 != 0 || self.view != View::Stored {
            bail!("{}: a tensor of shape {:?} has no {parts} equal parts", self.file.display(), self.shape);
        }
        let mut shape = self.shape.clone();
        shape[0] = rows / parts as i64;
        let strides = self.strides.clone().unwrap_or_else(|| dense_strides(&shape));
        let width = self.kind.elt_size_in_bytes();
        if shape.contains(&0) {
            return Ok(Self { shape, range: self.range.start..self.range.start, ..self.clone() });
        }
        let start = self.range.start + (part as i64 * shape[0] * strides[0]) as usize * width;
        let last: i64 = shape.iter().zip(&strides).map(|(n, stride)| (n - 1) * stride).sum();
        let length = (last as usize + 1) * width;
        Ok(Self { shape, range: start..start + length, ..self.clone() })
    }

    /// The weight of a convolution over single places as a matrix; any other tensor as it is.
    pub fn as_matrix(mut self) -> Self {
        if self.shape.len() > 2 && self.shape[2..].iter().all(|n| *n == 1) {
            self.shape.truncate(2);
            if let Some(strides) = &mut self.strides {
                strides.truncate(2);
            }
        }
        self
    }

    /// The second half of the rows first: scale and shift in the other order.
    pub fn halves_swapped(self) -> Self {
        Self { view: View::HalvesSwapped, ..self }
    }

    /// An identity matrix, as if it stood in `file`.
    pub fn identity(size: i64, file: Arc<PathBuf>) -> Self {
        Self { shape: vec![size, size], kind: Kind::Float, file, range: 0..0, strides: None, view: View::Identity }
    }
}

/// The tensor of a view; `stored` reads the numbers behind it.
pub(super) fn apply(
    entry: &Entry,
    device: Device,
    kind: Kind,
    stored: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    match entry.view {
        View::Stored => stored(),
        View::HalvesSwapped => {
            let rows = entry.shape.first().copied().unwrap_or(0);
            if rows % 2 != 0 {
                bail!("{rows} rows have no halves");
            }
            Ok(stored()?.roll(rows / 2, 0))
        }
        View::Identity => Ok(Tensor::eye(entry.shape[0], (kind, device))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::Checkpoint;

    /// Every view of a stored tensor holds the numbers that libtorch's own operation gives.
    #[test]
    fn views_hold_the_right_numbers() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("a.safetensors");
        let x = Tensor::arange(24, (Kind::Float, Device::Cpu));
        let tensors = [("rows", x.view([6, 4])), ("conv", x.view([6, 4, 1, 1]))];
        Tensor::write_safetensors(&tensors, &file)?;
        let views = |name: &str, entry: Entry| -> Result<Vec<(String, Entry)>> {
            let mut views = vec![(format!("{name}.matrix"), entry.clone().as_matrix())];
            if name == "rows" {
                for part in 0..3 {
                    views.push((part.to_string(), entry.rows(part, 3)?));
                }
                views.push(("swapped".to_string(), entry.clone().halves_swapped()));
                views.push(("eye".to_string(), Entry::identity(3, entry.file.clone())));
                assert!(entry.rows(0, 4).is_err() && entry.rows(3, 3).is_err());
            }
            Ok(views)
        };
        let checkpoint = Checkpoint::open(&[&file])?.convert(views)?;
        let read = |name: &str| checkpoint.read(name, Device::Cpu, Kind::Float);
        for part in 0..3 {
            assert_eq!(read(&part.to_string())?, x.view([6, 4]).narrow(0, 2 * part, 2));
        }
        assert_eq!(read("swapped")?, x.view([6, 4]).roll(3, 0));
        assert_eq!(read("eye")?, Tensor::eye(3, (Kind::Float, Device::Cpu)));
        assert_eq!((read("conv.matrix")?, read("rows.matrix")?), (x.view([6, 4]), x.view([6, 4])));
        assert!(Checkpoint::open(&[&file])?.convert(|_, entry| Ok(vec![("same".into(), entry)])).is_err());
        Ok(())
    }
}
