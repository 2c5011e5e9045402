//! The safetensors format: the length of a JSON header, the header, then the raw tensors.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use tch::Kind;

use super::{Entries, Entry, View};

/// Reads the header. The crate checks it against hostile files: length over 100 MB or over the file,
/// ranges that overlap, leave holes, do not fit shape and number type, or miss the file's end.
pub(super) fn open(bytes: &[u8], file: &Arc<PathBuf>) -> Result<Entries> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| explain(bytes, error))?;
    let data = header + 8;
    let mut entries = Entries::new();
    for (name, info) in metadata.tensors() {
        let shape = info.shape.iter().map(|&n| i64::try_from(n)).collect::<Result<_, _>>();
        let entry = Entry {
            shape: shape.with_context(|| format!("tensor {name} has an impossible shape"))?,
            kind: kind(info.dtype).with_context(|| format!("tensor {name}"))?,
            file: file.clone(),
            range: data + info.data_offsets.0..data + info.data_offsets.1,
            strides: None,
            view: View::Stored,
        };
        entries.insert(name, entry);
    }
    Ok(entries)
}

/// What the header holds beside the tensors.
pub(super) fn metadata(bytes: &[u8]) -> HashMap<String, String> {
    let header = SafeTensors::read_metadata(bytes).ok();
    header.and_then(|(_, metadata)| metadata.metadata().clone()).unwrap_or_default()
}

fn explain(bytes: &[u8], error: SafeTensorError) -> anyhow::Error {
    match error {
        // Its first bytes are no length at all, so it is some other kind of file.
        SafeTensorError::HeaderTooLarge if bytes.get(8) != Some(&b'{') => {
            anyhow!("neither safetensors nor a PyTorch pickle")
        }
        SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
            anyhow!("the file's length does not fit its header: a broken download?")
        }
        other => anyhow!("not a valid safetensors file: {other}"),
    }
}

fn kind(dtype: Dtype) -> Result<Kind> {
    Ok(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        // Published for T5, where nothing is computed in it.
        Dtype::F8_E4M3 => Kind::Float8e4m3fn,
        Dtype::F8_E5M2 => Kind::Float8e5m2,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        other => bail!("number type {other:?} is not one that these models use"),
    })
}
