//! The zip container: `NAME/data.pkl`, and each storage as `NAME/data/KEY`, stored as it is.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use zip::{CompressionMethod, ZipArchive};

use super::machine::{Arena, run};
use super::tensors::entries;
use crate::checkpoints::Entries;

pub(in crate::checkpoints) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Reads the pickle; the storages stay where they are.
pub(in crate::checkpoints) fn open(bytes: &[u8], file: &Arc<PathBuf>) -> Result<Entries> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).context("a damaged zip archive (a broken download?)")?;
    let members = members(&mut archive, bytes.len())?;
    let pickle = members.keys().filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl")).min();
    let pickle = pickle.context("a zip archive without data.pkl: not a PyTorch checkpoint")?;
    let root = pickle.strip_suffix("data.pkl").unwrap_or("");
    if let Some(order) = members.get(&format!("{root}byteorder"))
        && &bytes[order.clone()] != b"little"
    {
        bail!("its numbers are big-endian");
    }
    let mut arena = Arena::default();
    let (value, _) = run(&bytes[members[pickle].clone()], &mut arena)?;
    entries(&arena, value, file, |storage| {
        let member = members.get(&format!("{root}data/{}", storage.key));
        member.cloned().with_context(|| format!("its storage {} is missing", storage.key.escape_debug()))
    })
}

/// Where the bytes of each member are.
fn members<R: Read + std::io::Seek>(
    archive: &mut ZipArchive<R>,
    length: usize,
) -> Result<HashMap<String, Range<usize>>> {
    let mut members = HashMap::new();
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).context("a damaged zip archive")?;
        let name = member.name().to_string();
        if member.compression() != CompressionMethod::Stored {
            bail!("its member {} is compressed, which torch.save never does", name.escape_debug());
        }
        let start = member.data_start() as usize;
        let end = start.checked_add(member.size() as usize).filter(|&end| end <= length);
        let Some(end) = end else { bail!("its member {} is cut off: a broken download?", name.escape_debug()) };
        members.insert(name, start..end);
    }
    Ok(members)
}
