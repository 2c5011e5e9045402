//! The functions that a state dict may call, and the tensors that they describe.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tch::Kind;

use super::budget::Budget;
use super::values::{Arena, Function, Storage, Tensor, Value};
use crate::checkpoints::read::is_dense;
use crate::checkpoints::{Entries, Entry, View};

/// From `("storage", class, key, location, count[, view])`.
pub(super) fn storage(arena: &Arena, id: Value) -> Result<Storage> {
    let Some([tag, class, key, _location, count, view @ ..]) = arena.items(id) else {
        bail!("an outside reference that torch does not write");
    };
    if arena.text(*tag) != Some("storage") || view.iter().any(|view| *view != Value::None) {
        bail!("an outside reference that torch does not write any more");
    }
    let kind = match class {
        Value::Function(Function::Storage(kind)) => Some(*kind),
        Value::Function(Function::UntypedStorage) => None,
        _ => bail!("a storage of unknown class"),
    };
    let key = arena.shared_text(*key).context("a storage has no name")?;
    if key.len() > MAX_NAME {
        bail!("a storage has an impossible name");
    }
    Ok(Storage { key, kind, count: size(*count)? })
}

fn size(value: Value) -> Result<usize> {
    if let Value::Int(number) = value
        && let Ok(number) = usize::try_from(number)
    {
        return Ok(number);
    }
    bail!("a size that is no natural number")
}

fn sizes(arena: &Arena, value: Value) -> Result<Vec<i64>> {
    let items = arena.items(value).context("a shape that is no tuple")?;
    if items.len() > 64 {
        bail!("a tensor of {} dimensions", items.len());
    }
    items.iter().map(|item| Ok(size(*item)? as i64)).collect()
}

/// The tensor of these arguments.
pub(super) fn rebuild(
    arena: &mut Arena,
    storage: Value,
    offset: Value,
    shape: Value,
    strides: Value,
    kind: Option<Kind>,
) -> Result<Value> {
    let Value::Storage(storage) = storage else { bail!("a tensor without a storage") };
    let kind = kind.or(arena.storages[storage].kind).context("a tensor of unknown number type")?;
    let (shape, strides) = (sizes(arena, shape)?, sizes(arena, strides)?);
    if shape.len() != strides.len() {
        bail!("a tensor with {} sizes and {} strides", shape.len(), strides.len());
    }
    arena.budget.bytes(16 * shape.len())?;
    arena.tensors.push(Tensor { storage, kind, offset: size(offset)?, shape, strides });
    Ok(Value::Tensor(arena.tensors.len() - 1))
}

/// How deep dictionaries may be nested, and how long names may be, before a file is refused.
const MAX_DEPTH: usize = 16;
const MAX_NAME: usize = 1000;
/// For all names and entries together.
const MOST_BYTES: usize = 128 << 20;
/// What an entry takes, its shape apart.
const ENTRY: usize = 256;
/// How many times its file a checkpoint may be in memory: views that are laid out anew, some of them twice. And
/// what is allowed to any file, for constants that were expanded.
const TIMES_THE_FILE: usize = 4;
const ALWAYS: usize = 256 << 20;

/// The tensors in `root` by name, those of inner containers as `outer.inner`. When the root holds a
/// dictionary `state_dict` (what trainers write), only what is in there. `place` gives the bytes
/// of a storage in the file, which is `length` bytes long.
pub(super) fn entries(
    arena: &Arena,
    root: Value,
    file: &Arc<PathBuf>,
    length: usize,
    place: impl Fn(&Storage) -> Result<std::ops::Range<usize>>,
) -> Result<Entries> {
    let inner = arena.pairs(root).into_iter().flatten();
    let mut inner = inner.filter(|(key, _)| arena.text(*key) == Some("state_dict")).map(|(_, value)| *value);
    let root = inner.next_back().filter(|inner| arena.pairs(*inner).is_some()).unwrap_or(root);

    let mut found = BTreeMap::new();
    let mut waiting = vec![(String::new(), root, 0)];
    let mut budget = Budget::new(MOST_BYTES);
    let mut laid_out = 0usize;
    while let Some((name, value, depth)) = waiting.pop() {
        if let Value::Tensor(at) = value {
            let tensor = &arena.tensors[at];
            budget.bytes(ENTRY + 16 * tensor.shape.len())?;
            let entry = entry(tensor, arena, file, &place).with_context(|| format!("tensor {name}"))?;
            if entry.strides.is_some() {
                laid_out = laid_out.saturating_add(entry.len() as usize * entry.kind.elt_size_in_bytes());
                if laid_out > length.saturating_mul(TIMES_THE_FILE).saturating_add(ALWAYS) {
                    bail!(
                        "tensor {name}: its strides repeat what is stored, up to {laid_out} bytes from a file of {length}"
                    );
                }
            }
            found.insert(name, entry);
            continue;
        }
        if depth > MAX_DEPTH {
            bail!("its dictionaries are nested too deeply for a checkpoint");
        }
        // A later item of the same name replaces an earlier one, as in Python.
        for (name, child) in children(arena, &name, value, &mut budget)?.into_iter().rev() {
            if !found.contains_key(&name) {
                waiting.push((name, child, depth + 1));
            }
        }
    }
    if found.is_empty() {
        bail!("it holds no tensors");
    }
    Ok(found)
}

/// What of a container may hold tensors, by its whole name.
fn children(arena: &Arena, outer: &str, value: Value, budget: &mut Budget) -> Result<Vec<(String, Value)>> {
    let holds = |value: Value| matches!(value, Value::Tensor(_) | Value::Dict(_) | Value::List(_) | Value::Tuple(_));
    let mut children = Vec::new();
    let mut push = |key: Cow<str>, child: Value, budget: &mut Budget| {
        if outer.len() + key.len() > MAX_NAME {
            bail!("it holds names that are too long for a checkpoint");
        }
        let name = if outer.is_empty() { key.into_owned() } else { format!("{outer}.{key}") };
        budget.bytes(name.len())?;
        children.push((name, child));
        Ok(())
    };
    if let Some(pairs) = arena.pairs(value) {
        budget.values(pairs.len())?;
        for &(key, child) in pairs.iter().filter(|(_, child)| holds(*child)) {
            match key {
                Value::Int(number) => push(number.to_string().into(), child, budget)?,
                key => arena.text(key).map_or(Ok(()), |key| push(key.into(), child, budget))?,
            }
        }
        return Ok(children);
    }
    let items = arena.items(value).unwrap_or(&[]);
    budget.values(items.len())?;
    for (at, &child) in items.iter().enumerate().filter(|(_, child)| holds(**child)) {
        push(at.to_string().into(), child, budget)?;
    }
    Ok(children)
}

/// Checks that the view lies inside its storage.
fn entry(
    tensor: &Tensor,
    arena: &Arena,
    file: &Arc<PathBuf>,
    place: impl Fn(&Storage) -> Result<std::ops::Range<usize>>,
) -> Result<Entry> {
    let storage = &arena.storages[tensor.storage];
    let bytes = place(storage)?;
    let available = storage.count.checked_mul(storage.kind.map_or(1, |kind| kind.elt_size_in_bytes()));
    if available.is_none_or(|available| available > bytes.len()) {
        bail!("its storage {} is shorter than it says: a broken download?", storage.key.escape_debug());
    }
    let elements = checked_elements(&tensor.shape).context("an impossible shape")?;
    let range = if elements == 0 {
        // Nothing of the storage is read, wherever the view begins: torch allows that too.
        bytes.start..bytes.start
    } else {
        let inside = span(tensor).filter(|inside| inside.end <= available.unwrap_or(0));
        let Some(inside) = inside else { bail!("it reaches beyond its storage {}", storage.key.escape_debug()) };
        bytes.start + inside.start..bytes.start + inside.end
    };
    Ok(Entry {
        shape: tensor.shape.clone(),
        kind: tensor.kind,
        file: file.clone(),
        range,
        strides: (!is_dense(&tensor.shape, &tensor.strides)).then(|| tensor.strides.clone()),
        view: View::Stored,
    })
}

/// The bytes of a storage from the first element of a view, which has one, to the last one.
fn span(tensor: &Tensor) -> Option<std::ops::Range<usize>> {
    let mut last = 0usize;
    for (&n, &stride) in tensor.shape.iter().zip(&tensor.strides) {
        last = last.checked_add((n as usize - 1).checked_mul(stride as usize)?)?;
    }
    let width = tensor.kind.elt_size_in_bytes();
    let end = tensor.offset.checked_add(last)?.checked_add(1)?;
    Some(tensor.offset.checked_mul(width)?..end.checked_mul(width)?)
}

fn checked_elements(shape: &[i64]) -> Option<i64> {
    // A zero among the sizes must not hide an overflow of the others.
    let others = shape.iter().filter(|&&n| n != 0).try_fold(1i64, |product, &n| product.checked_mul(n))?;
    (others <= i64::MAX / 8).then_some(if shape.contains(&0) { 0 } else { others })
}
