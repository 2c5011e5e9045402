//! The functions that a state dict may call, and the tensors that they describe.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tch::Kind;

use super::machine::{Arena, Value};
use crate::checkpoints::read::dense_strides;
use crate::checkpoints::{Entries, Entry, View};

/// A function or class that is known; none of them does more than describe data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Function {
    OrderedDict,
    /// `_rebuild_tensor(storage, offset, shape, strides)`, and v2 with more behind.
    Tensor,
    /// v3: the number type stands behind, the storage is counted in bytes.
    TypedTensor,
    /// `_rebuild_parameter(tensor, …)` is the tensor.
    Parameter,
    /// `torch.Size(tuple)` is the tuple.
    Size,
    Storage(Kind),
    UntypedStorage,
    Dtype(Kind),
    /// Sets, and the state that trainers keep beside the weights: read over.
    Inert,
}

/// What this name means; a name that could do anything else is refused.
pub(super) fn function(module: &str, name: &str) -> Result<Function> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Function::OrderedDict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Function::Tensor,
        ("torch._utils", "_rebuild_tensor_v3") => Function::TypedTensor,
        ("torch._utils", "_rebuild_parameter") => Function::Parameter,
        ("torch", "Size") => Function::Size,
        ("torch" | "torch.storage", "UntypedStorage") => Function::UntypedStorage,
        ("torch", name) if name.ends_with("Storage") => Function::Storage(storage_kind(name)?),
        ("torch", name) if dtype(name).is_some() => Function::Dtype(dtype(name).context("a number type")?),
        ("__builtin__" | "builtins", "set" | "frozenset") => Function::Inert,
        (module, _) if module.split('.').next() == Some("pytorch_lightning") => Function::Inert,
        // Scores that trainers keep: numbers of numpy, and the bytes of them.
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Function::Inert,
        ("numpy", "dtype") | ("_codecs", "encode") => Function::Inert,
        _ => {
            let full = format!("{module}.{name}");
            let shown: String = full.escape_debug().take(100).collect();
            bail!(
                "refused: it would run {shown}; only tensors in plain dictionaries are read \
                 (what torch.save(model.state_dict()) writes)"
            )
        }
    })
}

fn storage_kind(class: &str) -> Result<Kind> {
    Ok(match class {
        "DoubleStorage" => Kind::Double,
        "FloatStorage" => Kind::Float,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        other => bail!("torch.{} is not a storage of numbers that these models use", other.escape_debug()),
    })
}

fn dtype(name: &str) -> Option<Kind> {
    Some(match name {
        "float64" | "double" => Kind::Double,
        "float32" | "float" => Kind::Float,
        "float16" | "half" => Kind::Half,
        "bfloat16" => Kind::BFloat16,
        "int64" | "long" => Kind::Int64,
        "int32" | "int" => Kind::Int,
        "int16" | "short" => Kind::Int16,
        "int8" => Kind::Int8,
        "uint8" => Kind::Uint8,
        "bool" => Kind::Bool,
        _ => return None,
    })
}

/// A block of numbers outside the pickle.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub key: String,
    /// None = untyped, counted in bytes.
    pub kind: Option<Kind>,
    /// Elements.
    pub count: usize,
}

impl Storage {
    /// From `("storage", class, key, location, count[, view])`.
    pub fn from_persistent_id(arena: &Arena, id: Value) -> Result<Self> {
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
        let key = arena.text(*key).context("a storage has no name")?.to_string();
        Ok(Self { key, kind, count: size(*count)? })
    }
}

/// A view of a storage.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    storage: usize,
    kind: Kind,
    /// Elements before the first one.
    offset: usize,
    shape: Vec<i64>,
    strides: Vec<i64>,
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

/// What a known function gives for these arguments.
pub(super) fn call(arena: &mut Arena, function: Function, arguments: Value) -> Result<Value> {
    let arguments = arena.items(arguments).context("a call without arguments")?.to_vec();
    match (function, arguments.as_slice()) {
        (Function::OrderedDict, []) => Ok(arena.new_dict(Vec::new())),
        (Function::OrderedDict, [list]) => {
            let items = arena.items(*list).context("a dictionary of no pairs")?;
            let pair = |item: &Value| match arena.items(*item) {
                Some([key, value]) => Ok((*key, *value)),
                _ => bail!("a dictionary of no pairs"),
            };
            let pairs = items.iter().map(pair).collect::<Result<_>>()?;
            Ok(arena.new_dict(pairs))
        }
        (Function::Tensor, [storage, offset, shape, strides, ..]) => {
            rebuild(arena, *storage, *offset, *shape, *strides, None)
        }
        (Function::TypedTensor, [storage, offset, shape, strides, _, _, dtype, ..]) => {
            let Value::Function(Function::Dtype(kind)) = dtype else { bail!("a tensor of unknown number type") };
            rebuild(arena, *storage, *offset, *shape, *strides, Some(*kind))
        }
        (Function::Parameter, [tensor @ Value::Tensor(_), ..]) => Ok(*tensor),
        (Function::Size, [sizes]) => Ok(*sizes),
        (Function::Inert, _) => Ok(Value::Opaque),
        (function, _) => bail!("{function:?} is called in a way that torch does not write"),
    }
}

fn rebuild(
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
    arena.tensors.push(Tensor { storage, kind, offset: size(offset)?, shape, strides });
    Ok(Value::Tensor(arena.tensors.len() - 1))
}

/// How deep dictionaries may be nested, how many values are looked at, and how long names may be,
/// before a file is refused.
const MAX_DEPTH: usize = 16;
const MAX_VALUES: usize = 1_000_000;
const MAX_NAME: usize = 1000;

/// The tensors in `root` by name, those of inner containers as `outer.inner`. When the root holds a
/// dictionary `state_dict` (what trainers write), only what is in there. `place` gives the bytes
/// of a storage.
pub(super) fn entries(
    arena: &Arena,
    root: Value,
    file: &Arc<PathBuf>,
    place: impl Fn(&Storage) -> Result<std::ops::Range<usize>>,
) -> Result<Entries> {
    let inner = arena.pairs(root).into_iter().flatten();
    let mut inner = inner.filter(|(key, _)| arena.text(*key) == Some("state_dict")).map(|(_, value)| *value);
    let root = inner.next_back().filter(|inner| arena.pairs(*inner).is_some()).unwrap_or(root);

    let mut found = BTreeMap::new();
    let mut waiting = vec![(String::new(), root, 0)];
    let mut seen = 0;
    while let Some((name, value, depth)) = waiting.pop() {
        if let Value::Tensor(at) = value {
            let entry = entry(&arena.tensors[at], arena, file, &place).with_context(|| format!("tensor {name}"))?;
            found.insert(name, entry);
            continue;
        }
        if depth > MAX_DEPTH {
            bail!("its dictionaries are nested too deeply for a checkpoint");
        }
        let children = children(arena, value);
        seen += children.len();
        if seen > MAX_VALUES {
            bail!("it holds too many values for a checkpoint");
        }
        // A later item of the same name replaces an earlier one, as in Python.
        for (key, child) in children.into_iter().rev() {
            let name = if name.is_empty() { key } else { format!("{name}.{key}") };
            if name.len() > MAX_NAME {
                bail!("it holds names that are too long for a checkpoint");
            }
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

fn children(arena: &Arena, value: Value) -> Vec<(String, Value)> {
    let holds = |value: &Value| matches!(value, Value::Tensor(_) | Value::Dict(_) | Value::List(_) | Value::Tuple(_));
    let name = |key: Value| match key {
        Value::Int(number) => Some(number.to_string()),
        key => arena.text(key).map(str::to_string),
    };
    if let Some(pairs) = arena.pairs(value) {
        let inside = pairs.iter().filter(|(_, child)| holds(child));
        return inside.filter_map(|(key, child)| Some((name(*key)?, *child))).collect();
    }
    let items = arena.items(value).unwrap_or(&[]).iter().enumerate();
    items.filter(|(_, child)| holds(child)).map(|(at, child)| (at.to_string(), *child)).collect()
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
    let width = tensor.kind.elt_size_in_bytes();
    let available = storage.count.checked_mul(storage.kind.map_or(1, |kind| kind.elt_size_in_bytes()));
    if available.is_none_or(|available| available > bytes.len()) {
        bail!("its storage {} is shorter than it says: a broken download?", storage.key.escape_debug());
    }
    let elements = checked_elements(&tensor.shape).context("an impossible shape")?;
    let mut length: usize = usize::from(elements > 0);
    if elements > 0 {
        for (&n, &stride) in tensor.shape.iter().zip(&tensor.strides) {
            let reach = (n as usize - 1).checked_mul(stride as usize);
            length = reach.and_then(|reach| length.checked_add(reach)).context("impossible strides")?;
        }
    }
    let first = tensor.offset.checked_mul(width);
    let range =
        first.zip(length.checked_mul(width)).and_then(|(first, length)| Some((first, first.checked_add(length)?)));
    let Some((start, end)) = range.filter(|(_, end)| *end <= available.unwrap_or(0)) else {
        bail!("it reaches beyond its storage {}", storage.key.escape_debug());
    };
    let dense = tensor.strides == dense_strides(&tensor.shape);
    Ok(Entry {
        shape: tensor.shape.clone(),
        kind: tensor.kind,
        file: file.clone(),
        range: bytes.start + start..bytes.start + end,
        strides: (!dense).then(|| tensor.strides.clone()),
        view: View::Stored,
    })
}

fn checked_elements(shape: &[i64]) -> Option<i64> {
    // A zero among the sizes must not hide an overflow of the others.
    let others = shape.iter().filter(|&&n| n != 0).try_fold(1i64, |product, &n| product.checked_mul(n))?;
    (others <= i64::MAX / 8).then_some(if shape.contains(&0) { 0 } else { others })
}
