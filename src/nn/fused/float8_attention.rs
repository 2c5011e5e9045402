//! Attention in float8 for Hopper and heads of up to 64: keys and values are quantised into tiles, then read tile by tile.

use tch::{Device, Kind, Tensor};

use super::VECTOR;
use super::launch::Ready;
use super::source::{ATTEND_GROUPS, GROUP_THREADS, Source, attend_shared_bytes};
use crate::runtime::kernel::Argument;
use crate::runtime::kernel::Argument::{Float, Int, Long, Tensor as Data};
use crate::runtime::multiplies_by_groups_of_warps;

/// Width of a head in the kernel: narrower ones are filled up with zeros.
const WIDTH: i64 = 64;
/// Keys of a tile, and the bytes that it takes.
const KEYS: i64 = 128;
const TILE_BYTES: i64 = KEYS * WIDTH + KEYS * (WIDTH + 8) + 128;
/// Threads that lay out a tile.
const LAYING_THREADS: i64 = 256;
/// Queries of a group.
const GROUP_ROWS: i64 = 64;
/// Heads of all pictures at most: the grid's second side.
const MOST_HEADS: i64 = 65535;

/// softmax(q · kᵀ / √width) · v of tokens [tokens, batch, 3 · heads · width], which hold queries, keys and values:
/// [tokens, batch, heads · width].
pub fn float8_attention(qkv: &Tensor, heads: i64) -> Option<Tensor> {
    let (Device::Cuda(index), &[tokens, batch, row]) = (qkv.device(), qkv.size().as_slice()) else { return None };
    let size = row / 3;
    let width = size / heads.max(1);
    let whole = row == 3 * heads * width && width % VECTOR == 0 && (1..=WIDTH).contains(&width);
    let fits = whole && tokens > 0 && (1..=MOST_HEADS).contains(&(batch * heads)) && qkv.is_contiguous();
    if !fits || !multiplies_by_groups_of_warps(index) {
        return None;
    }
    let lay_out = Ready::find(qkv, Source::Float8Attention(width), "float8_tiles")?;
    let attend = Ready::find(qkv, Source::Float8Attention(width), "float8_attention")?;
    let count = (tokens + KEYS - 1) / KEYS;
    let tiles = Tensor::empty([batch * heads * count * TILE_BYTES], (Kind::Uint8, qkv.device()));
    let out = Tensor::empty([tokens, batch, size], (qkv.kind(), qkv.device()));
    let (keys, values) = (qkv.narrow(-1, size, size), qkv.narrow(-1, 2 * size, size));
    let shape = || [Int(tokens as i32), Int(heads as i32), Long(batch * row), Long(row)];
    let arguments: Vec<Argument> = [&keys, &values, &tiles].map(|t| Data(Some(t))).into_iter().chain(shape()).collect();
    // SAFETY: keys and values of each token and picture lie at the strides that are given, a tile for each 128 of them.
    unsafe { lay_out.launch([count, batch * heads, 1], LAYING_THREADS, 0, &arguments) }?;
    let arguments = [qkv, &tiles, &out].map(|t| Data(Some(t))).into_iter().chain(shape());
    let of_out = [Long(batch * size), Long(size), Float((width as f32).sqrt().recip())];
    let arguments: Vec<Argument> = arguments.chain(of_out).collect();
    let rows = GROUP_ROWS * ATTEND_GROUPS;
    let grid = [(tokens + rows - 1) / rows, batch * heads, 1];
    // SAFETY: as above; `out` has a row of heads for each token and picture.
    unsafe { attend.launch(grid, GROUP_THREADS * ATTEND_GROUPS, attend_shared_bytes(), &arguments) }?;
    Some(out)
}
