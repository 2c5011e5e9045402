//! Linear layers over at most [`SKINNY_ROWS`] rows, as decoding has them: they take as long as their
//! weights take to be read, and are computed with what stands around them.

use tch::{Kind, Tensor};

use super::launch::Ready;
use super::source::{Source, TILE, WARPS, shared_bytes};
use super::{LONGEST_ROW, VECTOR};
use crate::runtime::kernel::Argument::{Float, Int, Tensor as Data};

/// Rows that the kernel takes at most.
pub const SKINNY_ROWS: i64 = 8;
/// From so many outputs on a block computes two tiles: with one there would be more blocks than the
/// device runs at once, each reading x for itself.
const MANY_OUTPUTS: i64 = 8192;

/// What is computed before and after the layer.
#[derive(Default)]
pub struct Epilogue<'a> {
    /// Weight `[inputs]` and epsilon of a root-mean-square norm of the input. Not in float16, where a
    /// number times the norm's weight could be too large.
    pub norm: Option<(&'a Tensor, f64)>,
    /// Added to the output; as large as that.
    pub added: Option<&'a Tensor>,
    /// silu(first half) · second half, instead of both.
    pub gated: bool,
    /// gelu(output), exact, before anything is added.
    pub gelu: bool,
}

/// x [..., inputs] · weightᵀ [outputs, inputs] + bias `[outputs]`, where x has few rows: [..., outputs].
pub fn skinny_gemm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, epilogue: &Epilogue) -> Option<Tensor> {
    if !super::fits(x) {
        return None;
    }
    let mut shape = x.size();
    let (inputs, (outputs, width)) = (shape.pop()?, weight.size2().ok()?);
    let rows = shape.iter().product::<i64>();
    let outputs = if epilogue.gated { outputs / 2 } else { outputs };
    shape.push(outputs);
    let norm = epilogue.norm.map(|(factors, _)| factors);
    let read = [Some(x), Some(weight), bias, epilogue.added, norm];
    // The kernel reads sixteen bytes at a time.
    let fits = |t: &Tensor| {
        let is_aligned = || (t.data_ptr() as usize).is_multiple_of(16);
        t.kind() == x.kind() && t.device() == x.device() && t.is_contiguous() && is_aligned()
    };
    if !(1..=SKINNY_ROWS).contains(&rows)
        || inputs != width
        || inputs % VECTOR != 0
        || outputs == 0
        || (norm.is_some() && (x.kind() == Kind::Half || inputs > LONGEST_ROW))
        || epilogue.added.is_some_and(|added| added.numel() as i64 != rows * outputs)
        || !read.iter().flatten().all(|t| fits(t))
    {
        return None;
    }
    let tiles = if epilogue.gated || outputs >= MANY_OUTPUTS { 2 } else { 1 };
    let ready = Ready::find(x, Source::SkinnyGemm(tiles), "skinny_gemm")?;
    let out = Tensor::empty(&shape, (x.kind(), x.device()));
    let span = if epilogue.gated { TILE } else { tiles * TILE };
    let sizes =
        [rows, inputs, outputs, i64::from(epilogue.gated), i64::from(epilogue.gelu)].map(|size| Int(size as i32));
    let eps = epilogue.norm.map_or(0.0, |(_, eps)| eps as f32);
    let arguments: Vec<_> = read.into_iter().chain([Some(&out)]).map(Data).chain(sizes).chain([Float(eps)]).collect();
    let shared = shared_bytes(tiles, norm.map_or(0, |_| inputs));
    // SAFETY: shapes, types and places in memory were checked above. Ahead of its turn the kernel
    // reads the weight and the norm's factors, which callers of `with_dependent_launch` promise to be old.
    unsafe { ready.launch_dependent([(outputs + span - 1) / span, 1, 1], WARPS * 32, shared, &arguments) }?;
    Some(out)
}
