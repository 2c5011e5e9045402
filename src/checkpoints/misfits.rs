//! Where a checkpoint and a model differ: every tensor that is missing, of another shape or too many, in one
//! error and in the order of their names.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checkpoint, Entry};

/// Of a long list, so many names are shown.
const SHOWN: usize = 5;

/// One tensor that does not fit, or some that are too many.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misfit(pub String);

/// All that does not fit.
#[derive(Debug, Default)]
pub(super) struct Misfits {
    pub missing: BTreeSet<String>,
    /// Shape in the file, and the shape that is asked for.
    pub misshapen: BTreeMap<String, [Vec<i64>; 2]>,
    pub extra: BTreeSet<String>,
}

impl Misfits {
    /// Notes whether a tensor is there and of the shape that is asked for.
    pub fn compare(&mut self, key: &str, entry: Option<&Entry>, wanted: &[i64]) {
        match entry {
            None => drop(self.missing.insert(key.to_string())),
            Some(entry) if entry.shape != wanted => {
                self.misshapen.insert(key.to_string(), [entry.shape.clone(), wanted.to_vec()]);
            }
            Some(_) => {}
        }
    }

    /// The whole text; None where all fits. In front stands the file that does not fit, or `files`, all of them.
    pub fn describe(&self, files: &str, checkpoint: &Checkpoint) -> Option<String> {
        let there = self.misshapen.keys().chain(&self.extra).filter_map(|name| checkpoint.entry(name));
        let there: BTreeSet<String> = there.map(|entry| entry.file.display().to_string()).collect();
        let files = match there.first() {
            Some(file) if there.len() == 1 && self.missing.is_empty() => file,
            _ => files,
        };
        let mut parts = Vec::new();
        if let Some(first) = self.missing.first() {
            if let Some(wrapped) = checkpoint.wrapped(first) {
                // The names are all there, so the cause says more than a list.
                return Some(match self.missing.len() - 1 {
                    0 => format!("{files}: tensor {first} is missing: {wrapped}"),
                    more => format!("{files}: tensor {first} is missing and {more} more: {wrapped}"),
                });
            }
            parts.push(match self.missing.len() {
                1 => format!("tensor {first} is missing"),
                count => format!("{count} tensors are missing ({})", list(self.missing.iter().cloned(), count)),
            });
        }
        if let Some((name, [found, wanted])) = self.misshapen.first_key_value() {
            parts.push(match self.misshapen.len() {
                1 => misshapen(name, found, wanted),
                count => {
                    let one = |(name, [found, wanted]): (_, &[Vec<i64>; 2])| {
                        format!("{name} {found:?} instead of {wanted:?}")
                    };
                    let all = list(self.misshapen.iter().map(one), count);
                    format!("{count} tensors have other shapes than its configuration asks for ({all})")
                }
            });
        }
        if !self.extra.is_empty() {
            let count = self.extra.len();
            let all = list(self.extra.iter().cloned(), count);
            let tensors = if count == 1 { "tensor" } else { "tensors" };
            parts.push(format!("{count} {tensors} that this model does not have ({all}): is it another model's file?"));
        }
        (!parts.is_empty()).then(|| format!("{files}: {}", parts.join("; ")))
    }
}

pub(super) fn misshapen(name: &str, found: &[i64], wanted: &[i64]) -> String {
    format!("tensor {name} has shape {found:?}, its configuration asks for {wanted:?}")
}

/// The first of them, and how many more there are.
pub fn list(names: impl Iterator<Item = String>, count: usize) -> String {
    // One name more takes no more room than saying that there is one.
    let shown = if count == SHOWN + 1 { count } else { SHOWN };
    let shown: Vec<String> = names.take(shown).collect();
    match count - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Names that wrappers put in front of a module's own, who does so, and what to save instead.
const WRAPPERS: [(&str, &str, &str); 2] = [
    ("_orig_mod", "torch.compile saves", "model._orig_mod.state_dict()"),
    ("module", "DataParallel and DistributedDataParallel save", "model.module.state_dict()"),
];

impl Checkpoint {
    /// What to say where tensor `key` is missing and is there under a longer name: the state dict of a wrapper
    /// (`module.`, `_orig_mod.`), or one inside another dictionary (`{"model": …}`).
    pub fn wrapped(&self, key: &str) -> Option<String> {
        let outer = |name: &str| Some(name.strip_suffix(key)?.strip_suffix('.')?.to_string());
        let plain = |name: &str| {
            let parts = name.split('.').filter(|part| WRAPPERS.iter().all(|(wrapper, ..)| part != wrapper));
            parts.collect::<Vec<_>>().join(".")
        };
        if let Some(prefix) = self.names().filter_map(outer).min_by_key(String::len) {
            let start = format!("{prefix}.");
            let inside = self.names().filter(|name| name.starts_with(&start)).count();
            let all = self.names().count();
            let share = if inside == all { "all tensors".into() } else { format!("{inside} of {all} tensors") };
            let last = prefix.rsplit('.').next().unwrap_or(&prefix);
            let advice = match WRAPPERS.iter().find(|(wrapper, ..)| *wrapper == last) {
                Some((_, who, save)) => format!("as {who} them: save {save} instead"),
                None => format!("as in a dictionary or module around the weights: save only what is inside {prefix:?}"),
            };
            return Some(format!("{share} have {start:?} before their names, {advice}"));
        }
        // Wrappers in the middle, around a part of the model.
        let wrapped = self.names().find(|name| plain(name) == key && *name != key)?;
        let (_, who, save) = WRAPPERS.iter().find(|(wrapper, ..)| wrapped.split('.').any(|part| part == *wrapper))?;
        Some(format!("it is there as {wrapped}, as {who} a part of a model: save that part's {save} instead"))
    }
}
