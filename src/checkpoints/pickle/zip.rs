//! The zip container: `NAME/data.pkl`, and each storage as `NAME/data/KEY`, stored as it is.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use zip::{CompressionMethod, ZipArchive};

use super::machine::run;
use super::tensors::entries;
use super::values::Arena;
use crate::checkpoints::Entries;

pub(in crate::checkpoints) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Reads the pickle; the storages stay where they are.
pub(in crate::checkpoints) fn open(bytes: &[u8], file: &Arc<PathBuf>) -> Result<Entries> {
    let members = members(bytes)?;
    let pickle = members.keys().filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl")).min();
    let pickle = pickle.context("a zip archive without data.pkl: not a PyTorch checkpoint")?;
    let root = pickle.strip_suffix("data.pkl").unwrap_or("");
    if let Some(order) = members.get(&format!("{root}byteorder"))
        && &bytes[order.bytes.clone()] != b"little"
    {
        bail!("its numbers are big-endian");
    }
    let mut arena = Arena::default();
    let (value, _) = run(&bytes[members[pickle].bytes.clone()], &mut arena)?;
    entries(&arena, value, file, bytes.len(), |storage| {
        let member = members.get(&format!("{root}data/{}", storage.key));
        member
            .map(|member| member.bytes.clone())
            .with_context(|| format!("its storage {} is missing", storage.key.escape_debug()))
    })
}

/// A file in the archive.
struct Member {
    bytes: Range<usize>,
    /// Its CRC-32, as it was when it was written.
    sum: u32,
}

fn members(bytes: &[u8]) -> Result<HashMap<String, Member>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).context("a damaged zip archive (a broken download?)")?;
    if archive.file_names().any(|name| name.ends_with("/constants.pkl")) {
        bail!("a TorchScript archive: save the weights alone, with torch.save(model.state_dict(), FILE)");
    }
    let mut members = HashMap::new();
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).context("a damaged zip archive")?;
        let name = member.name().to_string();
        if member.compression() != CompressionMethod::Stored {
            bail!("its member {} is compressed, which torch.save never does", name.escape_debug());
        }
        let start = member.data_start() as usize;
        let end = start.checked_add(member.size() as usize).filter(|&end| end <= bytes.len());
        let Some(end) = end else { bail!("its member {} is cut off: a broken download?", name.escape_debug()) };
        members.insert(name, Member { bytes: start..end, sum: member.crc32() });
    }
    let mut places: Vec<&Range<usize>> = members.values().map(|member| &member.bytes).collect();
    places.sort_by_key(|place| (place.start, place.end));
    // One place under thousands of names would be looked at as often.
    if places.windows(2).any(|pair| pair[1].start < pair[0].end) {
        bail!("its members overlap, which torch.save never lets them do");
    }
    Ok(members)
}

/// What the CRC-32 that an archive carries say of its bytes.
pub(in crate::checkpoints) enum Sums {
    /// It carries none: it is no zip archive, or it was written without
    /// (`torch.serialization.set_crc32_options(False)` leaves zeros in their places).
    Absent,
    Equal,
    /// The first member, in the order of the file, that is not what was written.
    Differ(String, Range<usize>),
}

/// Compares every member with its CRC-32.
pub(in crate::checkpoints) fn compare_sums(bytes: &[u8]) -> Result<Sums> {
    if !is_zip(bytes) {
        return Ok(Sums::Absent);
    }
    let mut members: Vec<(String, Member)> = members(bytes)?.into_iter().collect();
    if members.iter().all(|(_, member)| member.sum == 0) {
        return Ok(Sums::Absent);
    }
    members.sort_by_key(|(_, member)| member.bytes.start);
    let differs = |(_, member): &(String, Member)| crc32fast::hash(&bytes[member.bytes.clone()]) != member.sum;
    let damaged = members.into_par_iter().find_first(differs);
    Ok(damaged.map_or(Sums::Equal, |(name, member)| Sums::Differ(name, member.bytes)))
}
