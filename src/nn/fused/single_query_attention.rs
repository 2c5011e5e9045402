//! Attention of one new token a row where each query head has a key head of its own: one kernel.

use tch::Tensor;

use super::VECTOR;
use super::launch::Ready;
use super::source::{ATTEND_THREADS, Source};
use crate::nn::KvCache;
use crate::runtime::kernel::Argument::{self, Float, Int, Long, Tensor as Data};

/// Blocks that a GPU has room for at once, about.
const BLOCKS_AT_ONCE: i64 = 6 * 132;
/// Kernels in which several blocks share the places of a head, for few heads leave most of a GPU idle.
const CLUSTERS: [(i64, &str); 3] = [(8, "attend_one_8"), (4, "attend_one_4"), (2, "attend_one_2")];

/// Attention of the newest token of each row to its text, from the joint projection of queries, keys
/// and values [rows, 1, 3 · heads · width], of which keys and values go to place `slot` (`[1]`, int64) of the
/// cache: [rows, 1, heads · width]. The places up to this one are seen.
pub fn attend_to_text(joint: &Tensor, cache: &KvCache, slot: &Tensor) -> Option<Tensor> {
    let (keys, values) = cache.whole();
    let fits = slot.is_contiguous() && slot.device() == joint.device();
    fits.then(|| attend(joint, 3, keys, values, Some(slot)))?
}

/// Attention of one token a row, `queries` [rows, 1, heads · width], to all places of what the rows share,
/// one after another: `keys` and `values` [owners, heads, places, width] with the numbers of a head
/// side by side: [rows, 1, heads · width].
pub fn attend_to_all(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Option<Tensor> {
    attend(queries, 1, keys, values, None)
}

/// `parts`: how many times heads · width a row of `queries` holds.
fn attend(queries: &Tensor, parts: i64, keys: &Tensor, values: &Tensor, slot: Option<&Tensor>) -> Option<Tensor> {
    let (owners, heads, places, width) = keys.size4().ok()?;
    let rows = queries.size()[0];
    let alike = [keys, values].iter().all(|t| t.kind() == queries.kind() && t.device() == queries.device());
    let strides = keys.stride();
    let strides_fit = strides == values.stride() && strides[3] == 1 && strides.iter().take(3).all(|s| s % VECTOR == 0);
    let sizes_fit = values.size() == keys.size()
        && queries.size() == [rows, 1, parts * heads * width]
        && places > 0
        && (owners > 0 && rows % owners == 0)
        && (width % VECTOR == 0 && (VECTOR..=256).contains(&width));
    if !alike || !strides_fit || !sizes_fit || !queries.is_contiguous() {
        return None;
    }
    let find = |name| Ready::find(queries, Source::SingleQueryAttention(width), name);
    let room = |blocks: i64| slot.is_none() && rows * heads * blocks <= BLOCKS_AT_ONCE;
    let shared = CLUSTERS.iter().find(|(blocks, _)| room(*blocks));
    // Older devices have no such kernels.
    let shared = shared.and_then(|(blocks, name)| find(name).map(|ready| (ready, *blocks)));
    let (ready, blocks) = match shared {
        Some(shared) => shared,
        None => (find("attend_one")?, 1),
    };
    let out = Tensor::empty([rows, 1, heads * width], (queries.kind(), queries.device()));
    let tensors = [Some(queries), Some(keys), Some(values), Some(&out), slot].map(Data);
    let int = |number: i64| Int(number as i32);
    let numbers = [int(places), int(parts * heads * width), Long(strides[0]), int(strides[2]), int(strides[1])];
    let scale = std::f32::consts::LOG2_E / (width as f32).sqrt();
    let last = [int(rows / owners), Float(scale)];
    let arguments: Vec<Argument> = tensors.into_iter().chain(numbers).chain(last).collect();
    // SAFETY: shapes, strides and types were checked above; the slot lies inside the cache. Ahead of its turn the
    // kernel reads the slot and what earlier steps left of keys and values.
    unsafe { ready.launch_dependent([heads * blocks, rows, 1], ATTEND_THREADS, 0, &arguments) }?;
    Some(out)
}
