//! From the bytes of a file to a tensor on the device.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use tch::{Device, Kind, Tensor};

use super::Entry;
use super::finite::{NotFinite, Scan};
use super::staging::{Read, Sent, Staging, Target};
use crate::runtime::{MappedFile, shim};

const TOO_SHORT: &str = "the file ends before it (truncated download?)";

/// The tensor over the mapped bytes, moved, then cast there.
pub(super) fn tensor(file: &Arc<MappedFile>, entry: &Entry, device: Device, kind: Kind) -> Result<Tensor> {
    let Some(bytes) = file.get(entry.range.clone()) else { bail!(TOO_SHORT) };
    let size = entry.kind.elt_size_in_bytes();
    let strides = entry.strides.clone().unwrap_or_else(|| dense_strides(&entry.shape));
    let host = if (bytes.as_ptr() as usize).is_multiple_of(size) {
        shim::tensor_over_map(file.clone(), entry.range.start, &entry.shape, &strides, entry.kind)?
    } else {
        // libtorch reads whole numbers only where they are aligned, so these bytes are copied.
        let span = Tensor::f_from_data_size(bytes, &[(bytes.len() / size) as i64], entry.kind)?;
        span.f_as_strided(&entry.shape, &strides, 0)?
    };
    // Moved first: the device lays out and casts faster than the CPU.
    Ok(dense(entry, host.f_to_device(device)?)?.f_to_kind(loaded_kind(entry, kind))?)
}

/// The same through a ring of buffers, from which `device` fetches by itself (see [`Staging`]).
pub(super) fn staged<T: Target>(
    file: &Arc<MappedFile>,
    entry: &Entry,
    device: Device,
    kind: Kind,
    scan: Option<Scan>,
    staging: &mut Staging<T>,
) -> Result<(Tensor, Sent)> {
    let strides = entry.strides.clone().unwrap_or_else(|| dense_strides(&entry.shape));
    let last: i64 = entry.shape.iter().zip(&strides).map(|(n, stride)| (n - 1) * stride).sum();
    let count = if entry.is_empty() { 0 } else { last + 1 };
    let (start, length) = (entry.range.start, count as usize * entry.kind.elt_size_in_bytes());
    if entry.range.end > file.len() || start + length > entry.range.end {
        bail!(TOO_SHORT);
    }
    let span = Tensor::f_empty([count], (entry.kind, device))?;
    let read = reader(file.clone(), start, scan);
    // SAFETY: the tensor has room for as many bytes, and its memory goes to nobody who does not wait for
    // the copies: libtorch's allocator keeps to the order of the stream.
    let sent = unsafe { staging.send(span.data_ptr().cast(), length, &read) };
    let mut sent = sent.map_err(|error| error.downcast::<io::Error>().map_or_else(|other| other, explained))?;
    sent.is_scanned = scan.is_some();
    let tensor = dense(entry, span.f_as_strided(&entry.shape, &strides, 0)?)?.f_to_kind(loaded_kind(entry, kind))?;
    Ok((tensor, sent))
}

/// Reads what stands in a file from `start` on; `scan` looks at it while it is at hand.
fn reader(file: Arc<MappedFile>, start: usize, scan: Option<Scan>) -> Read {
    Arc::new(move |offset, piece| {
        file.file().read_exact_at(piece, (start + offset) as u64)?;
        match scan {
            Some(scan) if !scan(piece) => Err(io::Error::other(NotFinite)),
            _ => Ok(()),
        }
    })
}

/// Why bytes of a file could not be read, or cannot be used.
pub(super) fn explained(error: io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::UnexpectedEof {
        return anyhow!(TOO_SHORT);
    }
    match error.downcast::<NotFinite>() {
        Ok(found) => found.into(),
        Err(error) => error.into(),
    }
}

/// A view that is stored in another order, or repeats what is stored, is laid out row by row. So torch's
/// `load_state_dict` does it, which copies into dense parameters; oneDNN and our custom kernels read a vector's
/// numbers one behind the other, whatever its stride says.
fn dense(entry: &Entry, tensor: Tensor) -> Result<Tensor> {
    Ok(if entry.strides.is_some() { tensor.f_contiguous()? } else { tensor })
}

/// Numbers are cast to `kind`, integers stay what they are.
fn loaded_kind(entry: &Entry, kind: Kind) -> Kind {
    if is_float(entry.kind) { kind } else { entry.kind }
}

/// Row-major, in elements.
pub(super) fn dense_strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1);
    }
    strides
}

/// Whether elements of this shape and these strides stand in row-major order without gaps. Where there is one
/// element only, or none, strides mean nothing.
pub(super) fn is_dense(shape: &[i64], strides: &[i64]) -> bool {
    let dense = dense_strides(shape);
    shape.contains(&0) || (0..shape.len()).all(|axis| shape[axis] == 1 || strides[axis] == dense[axis])
}

/// Which kinds are cast on load.
pub(super) fn is_float(kind: Kind) -> bool {
    use Kind::{BFloat16, Double, Float, Float8e4m3fn, Float8e5m2, Half};
    matches!(kind, Double | Float | Half | BFloat16 | Float8e4m3fn | Float8e5m2)
}

#[cfg(test)]
mod tests {
    use super::super::finite::scan;
    use super::*;

    #[test]
    fn what_is_read_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let numbers = [1.0, f32::NAN, 2.0, 3.0].map(f32::to_le_bytes).concat();
        std::fs::write(&path, numbers).unwrap();
        let file = Arc::new(MappedFile::open(&path).unwrap());
        let read = |start, scan, length: usize| reader(file.clone(), start, scan)(4, &mut vec![0; length]);
        assert!(read(0, None, 4).is_ok());
        assert!(read(4, scan(Kind::Float), 8).is_ok());
        let found = explained(read(0, scan(Kind::Float), 8).unwrap_err());
        assert!(found.context("a tensor").downcast_ref::<NotFinite>().is_some());
        assert_eq!(explained(read(8, scan(Kind::Float), 8).unwrap_err()).to_string(), TOO_SHORT);
    }
}
