//! What a language model with a cache does to queries, keys and values: of whole prompts, and of one
//! new token a row.

use tch::{Kind, Tensor};

use super::launch::Ready;
use super::source::Source;
use super::{SKINNY_ROWS, THREADS};
use crate::nn::{KvCache, Rotation, Stretch};
use crate::runtime::kernel::Argument::{self, Float, Int, Long, Tensor as Data};

/// Blocks that the device is given at least, as far as each then has so many places of the cache to read.
const BLOCKS: i64 = 264;
const SMALLEST_SHARE: i64 = 64;
/// Blocks of the kernel for many rows that the device is given at least: they end at different times.
const TILE_BLOCKS: i64 = 1024;
/// Threads of such a block.
const TILE_THREADS: i64 = 128;
/// Blocks that share a row and a key head at most.
const MOST_SPLITS: i64 = 64;

/// Where the next token goes and what it sees; on the device.
pub struct Sight<'a> {
    /// Place of the token in the cache, `[1]` of int64.
    pub slot: &'a Tensor,
    /// First place that each row sees, `[rows]` of int64.
    pub padding: &'a Tensor,
    /// How many places a token sees at most.
    pub window: Option<i64>,
}

/// Turns the queries and keys of whole prompts in the joint projection [prompts, tokens,
/// (heads + 2 · kv_heads) · width], where they stand, and writes keys and values to `stretch` of the cache; without
/// one to the first places of as many rows for each prompt, one after another, as there are.
pub fn apply_rope(
    joint: &Tensor,
    heads: i64,
    rotation: &Rotation,
    cache: &KvCache,
    stretch: Option<Stretch>,
) -> Option<()> {
    let (keys, values) = cache.whole();
    let ((prompts, tokens, _), (rows, kv_heads, capacity, width)) = (joint.size3().ok()?, keys.size4().ok()?);
    let (cos, sin) = rotation.tables();
    let rotary = *cos.size().last()?;
    let tensors = [joint, cos, sin, keys, values];
    let fits = fits_cache(heads, kv_heads, width, rotary) && cos.numel() as i64 == prompts * tokens * rotary;
    let (own_rows, start) = stretch.map(|stretch| (stretch.rows, stretch.start)).unzip();
    let (start, copies) = (start.unwrap_or(0), if stretch.is_some() { 1 } else { rows / prompts });
    let rows_fit = own_rows.is_none_or(|rows| {
        (rows.size(), rows.kind(), rows.device()) == (vec![prompts], Kind::Int64, joint.device())
            && rows.is_contiguous()
    });
    if !fits
        || !rows_fit
        || start + tokens > capacity
        || tensors.iter().any(|t| !t.is_contiguous() || t.kind() != joint.kind())
    {
        return None;
    }
    let turn = Ready::find(joint, Source::Decoding(width, heads / kv_heads), "apply_rope")?;
    let sizes = [kv_heads, rotary, copies, start].map(|size| Int(size as i32));
    let tensors = tensors.map(Some).into_iter().chain([own_rows]).map(Data);
    let arguments: Vec<Argument> = tensors.chain(sizes).chain([Long(capacity)]).collect();
    // SAFETY: the shapes follow from the cache's; all are contiguous and of one type. The rows of a stretch are the cache's.
    unsafe { turn.launch([tokens, prompts, 1], THREADS, 0, &arguments) }
}

/// Whether the kernels are made for such heads. They turn eight numbers of a half at a time.
fn fits_cache(heads: i64, kv_heads: i64, width: i64, rotary: i64) -> bool {
    let groups = heads / kv_heads;
    matches!(width, 64 | 128 | 256) && (1..=8).contains(&groups) && groups * width <= 1024 && rotary % 16 == 0
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
    let (cos, sin) = rotation.tables();
    let rotary = *cos.size().last()?;
    let tensors = [joint, cos, sin, keys, values, sight.slot, sight.padding];
    let kinds_fit = tensors[..5].iter().all(|t| t.kind() == joint.kind());
    let fits = fits_cache(heads, kv_heads, width, rotary) && joint.size()[..2] == [rows, 1];
    if !fits || !kinds_fit || cos.numel() as i64 != rows * rotary || tensors.iter().any(|t| !t.is_contiguous()) {
        return None;
    }
    let find = |name| Ready::find(joint, Source::Decoding(width, groups), name);
    // Older devices, and wider heads, have no kernel for many rows.
    let tiles = if rows > SKINNY_ROWS { find("attend_tiles") } else { None };
    let (attend, blocks, threads) = match tiles {
        Some(tiles) => (tiles, TILE_BLOCKS, TILE_THREADS),
        None => (find("attend")?, BLOCKS, THREADS),
    };
    let most = ((capacity + SMALLEST_SHARE - 1) / SMALLEST_SHARE).min(MOST_SPLITS);
    let splits = (blocks / (rows * kv_heads)).clamp(1, most);
    let partial = Tensor::empty([rows, kv_heads, splits, groups, width + 2], (Kind::Float, joint.device()));
    let out = Tensor::empty([rows, 1, heads * width], (joint.kind(), joint.device()));
    let tensors = tensors.into_iter().chain([&partial, cache.arrivals(), &out]).map(|tensor| Data(Some(tensor)));
    let window = Int(sight.window.unwrap_or(0).min(capacity) as i32);
    let numbers = [Int(rotary as i32), Long(capacity), window, Float((width as f32).sqrt().recip())];
    let arguments: Vec<Argument> = tensors.chain(numbers).collect();
    // SAFETY: the shapes follow from the cache's, which is contiguous; the slot lies inside it, and
    // `partial` has a place for each block. Ahead of its turn the kernel reads the slot, the padding
    // and what earlier steps left in the cache.
    unsafe { attend.launch_dependent([splits, kv_heads, rows], threads, 0, &arguments) }?;
    Some(out)
}
