//! The container from before torch 1.6: four pickles (magic number, version, machine, object), a
//! pickled list of storage keys, then for each key its element count and its numbers.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::machine::run;
use super::tensors::entries;
use super::values::{Arena, Value};
use crate::checkpoints::Entries;

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// Whether this is a pickle at all; a wrong magic number is told by [`open`].
pub(in crate::checkpoints) fn is_legacy(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..]) && bytes.get(8) != Some(&b'{')
}

/// Reads the pickles; the storages stay where they are.
pub(in crate::checkpoints) fn open(bytes: &[u8], file: &Arc<PathBuf>) -> Result<Entries> {
    let mut rest = Pickles { bytes, at: 0 };
    let magic = match rest.next(&mut Arena::default())? {
        Value::Long(start, length) => &bytes[start..start + length],
        _ => &[],
    };
    if magic != MAGIC {
        bail!("a pickle, but not a PyTorch checkpoint");
    }
    if rest.next(&mut Arena::default())? != Value::Int(VERSION) {
        bail!("a PyTorch checkpoint of an unknown version");
    }
    let mut machine = Arena::default();
    let about = rest.next(&mut machine)?;
    let little_endian =
        machine.pairs(about).into_iter().flatten().find(|(key, _)| machine.text(*key) == Some("little_endian"));
    if little_endian.map(|(_, value)| *value) != Some(Value::Bool(true)) {
        bail!("its numbers are big-endian");
    }
    let mut arena = Arena::default();
    let value = rest.next(&mut arena)?;
    let places = rest.storages(&arena)?;
    entries(&arena, value, file, bytes.len(), |storage| {
        let place = places.get(&*storage.key);
        place.cloned().with_context(|| format!("its storage {} is missing", storage.key.escape_debug()))
    })
}

/// What of the file is not read yet.
struct Pickles<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Pickles<'_> {
    /// Positions in the value count from the start of the file.
    fn next(&mut self, arena: &mut Arena) -> Result<Value> {
        let start = self.at;
        let (value, length) = run(&self.bytes[start..], arena)?;
        self.at += length;
        Ok(match value {
            Value::Long(at, length) => Value::Long(start + at, length),
            other => other,
        })
    }

    /// Where the numbers of each key are.
    fn storages(&mut self, arena: &Arena) -> Result<HashMap<String, Range<usize>>> {
        let mut listed = Arena::default();
        let keys = self.next(&mut listed)?;
        let keys = listed.items(keys).context("the list of storages is missing")?;
        let known: HashMap<&str, _> = arena.storages.iter().map(|storage| (&*storage.key, storage)).collect();
        let mut places = HashMap::new();
        for key in keys {
            let key = listed.text(*key).context("a storage has no name")?;
            let storage =
                known.get(key).with_context(|| format!("storage {} is of unknown type", key.escape_debug()))?;
            let width = storage.kind.map_or(1, |kind| kind.elt_size_in_bytes());
            let count = self.bytes.get(self.at..self.at + 8).and_then(|bytes| bytes.try_into().ok());
            let count =
                usize::try_from(u64::from_le_bytes(count.context("the file ends too early: a broken download?")?));
            let start = self.at + 8;
            let end = count.ok().and_then(|count| count.checked_mul(width)?.checked_add(start));
            let Some(end) = end.filter(|&end| end <= self.bytes.len()) else {
                bail!("storage {} is cut off: a broken download?", key.escape_debug());
            };
            places.insert(key.to_string(), start..end);
            self.at = end;
        }
        Ok(places)
    }
}
