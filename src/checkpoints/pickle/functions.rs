//! The functions and classes that the pickle of a state dict may name.

use anyhow::{Context, Result, bail};
use tch::Kind;

use super::tensors::rebuild;
use super::values::{Arena, Function, Value};

/// Packages whose classes are read over: trainers keep their settings and the state of their callbacks beside
/// the weights.
const TRAINERS: [&str; 3] = ["pytorch_lightning", "lightning", "lightning_fabric"];

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
        ("torch", "device") => Function::Inert,
        (module, _) if TRAINERS.contains(&module.split('.').next().unwrap_or(module)) => Function::Inert,
        // The options of a training script.
        ("argparse", "Namespace") => Function::Inert,
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
        "float8_e4m3fn" => Kind::Float8e4m3fn,
        "float8_e5m2" => Kind::Float8e5m2,
        _ => return None,
    })
}

/// What a known function gives for these arguments.
pub(super) fn call(arena: &mut Arena, function: Function, arguments: Value) -> Result<Value> {
    let count = arena.items(arguments).context("a call without arguments")?.len();
    arena.budget.values(count)?;
    let arguments = arena.items(arguments).unwrap_or(&[]).to_vec();
    match (function, arguments.as_slice()) {
        (Function::OrderedDict, []) => Ok(arena.new_dict(Vec::new())),
        (Function::OrderedDict, [list]) => {
            let count = arena.items(*list).context("a dictionary of no pairs")?.len();
            arena.budget.values(2 * count)?;
            let items = arena.items(*list).unwrap_or(&[]);
            let pair = |item: &Value| match arena.items(*item) {
                Some([key, value]) => Ok((*key, *value)),
                _ => bail!("a dictionary of no pairs"),
            };
            let pairs = items.iter().map(pair).collect::<Result<_>>()?;
            Ok(arena.new_dict(pairs))
        }
        (Function::Tensor, [storage, offset, shape, strides, more @ ..]) => {
            check_plain(arena, more.get(2))?;
            rebuild(arena, *storage, *offset, *shape, *strides, None)
        }
        (Function::TypedTensor, [storage, offset, shape, strides, _, _, dtype, more @ ..]) => {
            let Value::Function(Function::Dtype(kind)) = dtype else { bail!("a tensor of unknown number type") };
            check_plain(arena, more.first())?;
            rebuild(arena, *storage, *offset, *shape, *strides, Some(*kind))
        }
        (Function::Parameter, [tensor @ Value::Tensor(_), ..]) => Ok(*tensor),
        (Function::Size, [sizes]) => Ok(*sizes),
        (Function::Inert, _) => Ok(Value::Opaque),
        (function, _) => bail!("{function:?} is called in a way that torch does not write"),
    }
}

/// What torch keeps beside a tensor whose numbers are to be negated or conjugated when they are read.
fn check_plain(arena: &Arena, metadata: Option<&Value>) -> Result<()> {
    match metadata.and_then(|metadata| arena.pairs(*metadata)) {
        Some([_, ..]) => {
            bail!("a tensor that is stored negated or conjugated: save it again after resolve_neg() and resolve_conj()")
        }
        _ => Ok(()),
    }
}
