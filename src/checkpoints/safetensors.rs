//! The safetensors format: a JSON header, then the raw tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use super::Entry;

/// Maps the file and reads its header.
pub(super) fn open(path: &Path) -> Result<(Arc<Mmap>, BTreeMap<String, Entry>)> {
    let file = File::open(path)?;
    // SAFETY: the map is read-only; a file that another process shortens meanwhile would fault,
    // as with every memory-mapped format.
    let map = unsafe { Mmap::map(&file)? };
    let (header, metadata) = SafeTensors::read_metadata(&map)?;
    let data = header + 8;
    let shared = Arc::new(path.to_path_buf());
    let mut entries = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let entry = Entry {
            shape: info.shape.iter().map(|&n| n as i64).collect(),
            kind: kind(info.dtype)?,
            file: shared.clone(),
            range: data + info.data_offsets.0..data + info.data_offsets.1,
            strides: None,
        };
        entries.insert(name, entry);
    }
    Ok((Arc::new(map), entries))
}

fn kind(dtype: Dtype) -> Result<Kind> {
    Ok(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        other => bail!("number type {other:?} is not one that these models use"),
    })
}

/// The tensor over the mapped bytes, moved and cast where asked for.
pub(super) fn tensor(map: &Arc<Mmap>, entry: &Entry, device: Device, kind: Kind) -> Result<Tensor> {
    let Some(bytes) = map.get(entry.range.clone()) else {
        bail!("the file ends before it (truncated download?)");
    };
    let strides = entry.strides.clone().unwrap_or_else(|| {
        let mut strides = vec![1; entry.shape.len()];
        for i in (1..entry.shape.len()).rev() {
            strides[i - 1] = strides[i] * entry.shape[i];
        }
        strides
    });
    // SAFETY: `bytes` lives as long as the map; `leak` below keeps the map for as long as a tensor
    // may alias it.
    let mapped = unsafe { Tensor::f_from_blob(bytes.as_ptr(), &entry.shape, &strides, entry.kind, Device::Cpu)? };
    let to = if is_float(entry.kind) { kind } else { entry.kind };
    if device == Device::Cpu && to == entry.kind {
        std::mem::forget(map.clone());
        return Ok(mapped);
    }
    Ok(mapped.f_to_device_(device, to, false, true)?)
}

/// Which kinds are cast on load.
fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16)
}
