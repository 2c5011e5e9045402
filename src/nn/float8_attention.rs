//! Attention in float8 (e4m3): queries, keys, values and weights. Lossy, as [`float8`](super::float8) is.
//!
//! A weight 2^x becomes the e4m3 number whose code is 8 x + 120, rounded. The code of a number of e4m3 is piecewise linear
//! in its logarithm, so this is 2^x but for 6 % at most, nearly all of which the sum of the same numbers divides away; and no
//! exponential is computed, which is what attention over narrow heads waits for.
//!
//! On CUDA by a kernel for Hopper, on the CPU by the same numbers in float32: slow, and there to be looked
//! at.

use tch::{Device, Kind, Tensor};

use super::float8::{LARGEST, SMALLEST};
use super::fused;

/// Keys, and their values, that share a scale.
const TILE: i64 = 128;
/// Widest head, and what widths are multiples of.
const WIDEST: i64 = 64;
const UNIT: i64 = 8;
/// The code of a weight of 1: 2^8.
const TOP: f64 = 120.0;
/// Codes from a number to its double.
const CODES: f64 = 8.0;
/// What queries are long, and the largest number of keys: their products then fit float16.
const QUERY_LENGTH: f64 = 128.0;
const LARGEST_OF_KEYS: f64 = 56.0;
/// Powers of two that scale values.
const EXPONENTS: [f64; 2] = [-8.0, 6.0];
/// Scores that are imitated at once.
const SCORES: i64 = 1 << 26;

/// softmax(q · kᵀ / √width) · v of tokens [tokens, batch, 3 · heads · width], which hold queries, keys and values:
/// [tokens, batch, heads · width]. None on a GPU without the kernel, and where heads are wider than it takes.
pub fn float8_attention(qkv: &Tensor, heads: i64) -> Option<Tensor> {
    let width = qkv.size().last().copied().unwrap_or(0) / (3 * heads);
    if width > WIDEST || width % UNIT != 0 {
        return None;
    }
    match qkv.device() {
        Device::Cuda(_) => fused::float8_attention(qkv, heads),
        _ => Some(imitated(qkv, heads)),
    }
}

fn imitated(qkv: &Tensor, heads: i64) -> Tensor {
    let size = qkv.size();
    let (tokens, batch) = (size[0], size[1]);
    // Three of [batch · heads, tokens, width].
    let parts = qkv.view([tokens, batch, 3, heads, -1]).permute([2, 1, 3, 0, 4]).to_kind(Kind::Float).flatten(1, 2);
    let at_once = (SCORES / (tokens * tokens).max(1)).max(1);
    let mixed: Vec<Tensor> = (0..batch * heads)
        .step_by(at_once as usize)
        .map(|first| {
            let some = parts.narrow(1, first, at_once.min(batch * heads - first));
            of_heads(&some.select(0, 0), &some.select(0, 1), &some.select(0, 2))
        })
        .collect();
    let mixed = Tensor::cat(&mixed, 0).view([batch, heads, tokens, -1]);
    mixed.permute([2, 0, 1, 3]).reshape([tokens, batch, -1]).to_kind(qkv.kind())
}

/// Each [heads, tokens, width] in float32.
fn of_heads(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let width = q.size()[2] as f64;
    let length = q.square().sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>).sqrt().clamp_min(SMALLEST);
    let q = e4m3(&(q * (length.full_like(QUERY_LENGTH) / &length))) * (&length / QUERY_LENGTH);
    let largest = largest_of_tiles(k);
    let k = e4m3(&(k * (largest.full_like(LARGEST_OF_KEYS) / &largest))) * (&largest / LARGEST_OF_KEYS);
    let exponents = (largest_of_tiles(v) / LARGEST).log2().ceil().clamp(EXPONENTS[0], EXPONENTS[1]);
    let v = e4m3(&(v * (-&exponents).exp2()));
    // The weights of values that were made smaller are larger by as much.
    let exponents = exponents.transpose(1, 2);
    let scores = q.matmul(&k.transpose(1, 2)) * (std::f64::consts::LOG2_E / width.sqrt()) + &exponents;
    let top = scores.amax([-1i64].as_slice(), true).ceil();
    let codes = ((scores - top) * CODES + TOP).nan_to_num(0.0, None, 0.0).clamp_min(0.0).round();
    let weights = codes.to_kind(Kind::Uint8).view_dtype(Kind::Float8e4m3fn).to_kind(Kind::Float);
    let sum = (&weights * (-exponents).exp2()).sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>);
    weights.matmul(&v) / sum
}

/// The largest size of a number in each tile of x [heads, tokens, width], for each token: [heads, tokens, 1].
fn largest_of_tiles(x: &Tensor) -> Tensor {
    let tokens = x.size()[1];
    let largest = x.abs().amax([-1i64].as_slice(), true);
    let tiles = (0..tokens).step_by(TILE as usize).map(|first| {
        let tile = largest.narrow(1, first, TILE.min(tokens - first));
        tile.amax([1i64].as_slice(), true).expand_as(&tile)
    });
    Tensor::cat(&tiles.collect::<Vec<_>>(), 1).clamp_min(SMALLEST)
}

/// The nearest numbers of e4m3.
fn e4m3(x: &Tensor) -> Tensor {
    x.clamp(-LARGEST, LARGEST).to_kind(Kind::Float8e4m3fn).to_kind(Kind::Float)
}
