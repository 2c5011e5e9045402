//! From mapped bytes to a tensor on the device.

use std::sync::Arc;

use anyhow::{Result, bail};
use memmap2::MmapMut;
use tch::{Device, Kind, Tensor};

use super::Entry;
use crate::runtime::shim;

/// The tensor over the mapped bytes, moved, then cast there.
pub(super) fn tensor(map: &Arc<MmapMut>, entry: &Entry, device: Device, kind: Kind) -> Result<Tensor> {
    let Some(bytes) = map.get(entry.range.clone()) else {
        bail!("the file ends before it (truncated download?)");
    };
    let size = entry.kind.elt_size_in_bytes();
    let strides = entry.strides.clone().unwrap_or_else(|| dense_strides(&entry.shape));
    let host = if (bytes.as_ptr() as usize).is_multiple_of(size) {
        shim::tensor_over_map(map.clone(), entry.range.start, &entry.shape, &strides, entry.kind)?
    } else {
        // libtorch reads whole numbers only where they are aligned, so these bytes are copied.
        let span = Tensor::f_from_data_size(bytes, &[(bytes.len() / size) as i64], entry.kind)?;
        span.f_as_strided(&entry.shape, &strides, 0)?
    };
    let to = if is_float(entry.kind) { kind } else { entry.kind };
    // Moved first: the device casts faster than the CPU.
    Ok(host.f_to_device(device)?.f_to_kind(to)?)
}

/// Row-major, in elements.
pub(super) fn dense_strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1);
    }
    strides
}

/// Which kinds are cast on load.
pub(super) fn is_float(kind: Kind) -> bool {
    use Kind::{BFloat16, Double, Float, Float8e4m3fn, Float8e5m2, Half};
    matches!(kind, Double | Float | Half | BFloat16 | Float8e4m3fn | Float8e5m2)
}
