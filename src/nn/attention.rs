//! Scaled dot-product attention over heads, through libtorch's fused kernels.

use std::cell::Cell;

use tch::{Kind, Tensor};

use crate::runtime::kernel::is_eager_by_choice;
use crate::runtime::shim::cudnn_attention;

thread_local! {
    static LONG: Cell<bool> = const { Cell::new(false) };
}

/// Computes attention as suits thousands of tokens and shapes that come again: on CUDA by cuDNN's kernels where they can,
/// which are faster there but want a plan for each shape.
pub fn with_long_attention<T>(work: impl FnOnce() -> T) -> T {
    let before = LONG.replace(!is_eager_by_choice());
    let out = work();
    LONG.set(before);
    out
}

/// By cuDNN within [`with_long_attention`], as far as it goes.
fn long_attention(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Option<Tensor> {
    let suits = LONG.get() && q.device().is_cuda() && matches!(q.kind(), Kind::Half | Kind::BFloat16);
    if suits { cudnn_attention(q, k, v, causal) } else { None }
}

/// [batch, tokens, heads · head_dim] → [batch, heads, tokens, head_dim]
pub fn split_heads(x: &Tensor, heads: i64) -> Tensor {
    let size = x.size();
    x.view([size[0], size[1], heads, -1]).transpose(1, 2)
}

/// [batch, heads, tokens, head_dim] → [batch, tokens, heads · head_dim]
pub fn join_heads(x: &Tensor) -> Tensor {
    let size = x.size();
    x.transpose(1, 2).reshape([size[0], size[2], size[1] * size[3]])
}

/// softmax(q · kᵀ / √head_dim + mask) · v, heads first. `mask` is boolean (true = may be seen) or
/// additive, and broadcasts to [batch, heads, queries, keys].
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Tensor {
    let long = if mask.is_none() { long_attention(q, k, v, false) } else { None };
    long.unwrap_or_else(|| Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, false, None, false))
}

/// Attention where a query sees the keys up to its own place; queries and keys are of one length. Query
/// heads may share those of keys and values.
pub fn causal_attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let groups = q.size()[1] / k.size()[1];
    // The kernel for 16 bits on CUDA lets them share, others would fall back to a slow way.
    let shares = groups > 1 && q.device().is_cuda() && matches!(q.kind(), Kind::Half | Kind::BFloat16);
    let (k, v) = if shares {
        (k.shallow_clone(), v.shallow_clone())
    } else {
        (repeat_heads(k, groups), repeat_heads(v, groups))
    };
    long_attention(q, &k, &v, true)
        .unwrap_or_else(|| Tensor::scaled_dot_product_attention(q, &k, &v, None::<&Tensor>, 0.0, true, None, shares))
}

/// Repeats each key or value head for the query heads that share it:
/// [batch, kv_heads, tokens, head_dim] → [batch, kv_heads · groups, tokens, head_dim].
pub fn repeat_heads(x: &Tensor, groups: i64) -> Tensor {
    if groups == 1 {
        return x.shallow_clone();
    }
    let size = x.size();
    x.unsqueeze(2).expand([size[0], size[1], groups, size[2], size[3]], false).reshape([
        size[0],
        size[1] * groups,
        size[2],
        size[3],
    ])
}
