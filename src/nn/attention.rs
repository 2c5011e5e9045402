//! Scaled dot-product attention over heads, through libtorch's fused kernels.

use tch::{Kind, Tensor};

use crate::runtime::kernel::is_eager_by_choice;
use crate::runtime::shim::{AttentionBackend, attention_order};

/// Computes attention as suits thousands of tokens and one shape over many steps: on CUDA cuDNN's
/// kernels first, which are faster there but want a plan for each shape.
pub fn with_long_attention<T>(work: impl FnOnce() -> T) -> T {
    use AttentionBackend::{Cudnn, Flash, Math, MemoryEfficient};
    if is_eager_by_choice() {
        return work();
    }
    attention_order(&[Cudnn, Flash, MemoryEfficient, Math]);
    let out = work();
    attention_order(&[Flash, MemoryEfficient, Math, Cudnn]);
    out
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
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, false, None, false)
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
    Tensor::scaled_dot_product_attention(q, &k, &v, None::<&Tensor>, 0.0, true, None, shares)
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
