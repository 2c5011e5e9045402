//! Attention of one new token a row.

use tch::{Kind, Tensor};

use super::launch::{Ready, Source};
use crate::nn::{KvCache, Rotation};
use crate::runtime::kernel::Argument::{self, Float, Int, Long, Tensor as Data};

/// Places of the cache that one block reads.
const SHARE: i64 = 64;

/// Where the next token goes and what it sees; on the device.
pub struct Sight<'a> {
    /// Place of the token in the cache, [1] of int64.
    pub slot: &'a Tensor,
    /// First place that each row sees, [rows] of int64.
    pub padding: &'a Tensor,
    /// How many places a token sees at most.
    pub window: Option<i64>,
}

/// Attention of one new token a row, from the joint projection of queries, keys and values
/// [rows, 1, (heads + 2 · kv_heads) · width], which is turned and written into the cache:
/// [rows, 1, heads · width].
pub fn decode_attention(
    joint: &Tensor,
    heads: i64,
    rotation: &Rotation,
    cache: &KvCache,
    sight: &Sight,
) -> Option<Tensor> {
    let (keys, values) = cache.whole();
    let (rows, kv_heads, capacity, width) = keys.size4().ok()?;
    let groups = heads / kv_heads;
    let source = Source::Decoding(width, groups);
    if !matches!(width, 64 | 128 | 256) || !(1..=8).contains(&groups) || joint.size()[..2] != [rows, 1] {
        return None;
    }
    let (cos, sin) = rotation.tables();
    let rotary = *cos.size().last()?;
    let tensors = [joint, keys, values, cos, sin, sight.slot, sight.padding];
    let kinds_fit = tensors[..5].iter().all(|t| t.kind() == joint.kind());
    if !kinds_fit || tensors.iter().any(|t| !t.is_contiguous()) || cos.numel() as i64 != rows * rotary {
        return None;
    }
    let options = (joint.kind(), joint.device());
    let queries = Tensor::empty([rows, heads, width], options);
    let turn = Ready::find(joint, source, "turn_and_store")?;
    let tables = [joint, cos, sin, sight.slot, &queries, keys, values].map(|tensor| Data(Some(tensor)));
    let sizes = [heads, kv_heads, width, rotary].map(|size| Int(size as i32));
    let arguments: Vec<Argument> = tables.into_iter().chain(sizes).chain([Long(capacity)]).collect();
    // SAFETY: the shapes follow from the cache's, which is contiguous; the slot lies inside it.
    unsafe { turn.launch([heads + 2 * kv_heads, rows, 1], width, 0, &arguments) }?;

    let splits = (capacity + SHARE - 1) / SHARE;
    let partial = Tensor::empty([rows, kv_heads, splits, groups, width + 2], (Kind::Float, joint.device()));
    let attend = Ready::find(joint, source, "attend_share")?;
    let tensors = [&queries, keys, values, sight.slot, sight.padding, &partial].map(|tensor| Data(Some(tensor)));
    let numbers =
        [Int(SHARE as i32), Long(capacity), Long(sight.window.unwrap_or(0)), Float((width as f32).sqrt().recip())];
    let arguments: Vec<Argument> = tensors.into_iter().chain(numbers).collect();
    // SAFETY: as above; `partial` has a place for each block.
    unsafe { attend.launch([splits, kv_heads, rows], 128, 0, &arguments) }?;

    let out = Tensor::empty([rows, 1, heads * width], options);
    let join = Ready::find(joint, source, "join_shares")?;
    let arguments = [Data(Some(&partial)), Data(Some(&out)), Int(splits as i32)];
    // SAFETY: as above.
    unsafe { join.launch([heads, rows, 1], width, 0, &arguments) }?;
    Some(out)
}
