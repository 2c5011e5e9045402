//! The arithmetic of several layers in one kernel, where a GPU computes in 16 bits: there memory
//! traffic and the starting of kernels cost more than the arithmetic.
//!
//! Each function gives None where its kernel does not fit (the CPU, float32, odd sizes); the caller
//! then computes the same plainly. Within a kernel everything is float32, so results differ from the
//! plain ones by the roundings that are left out.

mod decoding;
mod feature_maps;
mod float8;
mod float8_attention;
mod launch;
mod layer_norm;
mod single_query_attention;
mod skinny_gemm;
mod source;

use tch::{Device, Kind, Tensor};

pub use decoding::{Sight, apply_rope, decode_attention};
pub use feature_maps::{Affine, add_channel_bias, add_deferred_bias, group_norm, upsample_nearest_2x};
pub use float8::{Activated, Scaled, float8_rows, gated_add_modulated_norm_float8};
pub use float8_attention::float8_attention;
use launch::Ready;
pub use launch::with_dependent_launch;
pub use layer_norm::{add_layer_norm, layer_norm, layer_norm_of_sum};
pub use single_query_attention::{attend_to_all, attend_to_text};
pub use skinny_gemm::{Epilogue, SKINNY_ROWS, skinny_gemm};
use source::Source;

use crate::runtime::kernel::Argument;
use crate::runtime::kernel::Argument::{Float, Int, Long, Tensor as Data};
use crate::runtime::kernel::is_eager;

/// Numbers that a thread reads at once.
const VECTOR: i64 = 8;
/// Longest row that a block of the norms keeps.
const LONGEST_ROW: i64 = 8192;
/// Threads of a block where each takes one vector.
const THREADS: i64 = 256;

/// Whether kernels are made for tensors like this one.
pub fn fits(x: &Tensor) -> bool {
    matches!(x.device(), Device::Cuda(index) if !is_eager(index)) && matches!(x.kind(), Kind::Half | Kind::BFloat16)
}

/// Rows and their length, where blocks of the norms can take them.
fn rows_of(x: &Tensor) -> Option<(i64, i64)> {
    let size = *x.size().last()?;
    let fits = size % VECTOR == 0 && (1..=LONGEST_ROW).contains(&size) && x.is_contiguous();
    fits.then(|| (x.numel() as i64 / size, size))
}

/// Threads for a row: enough that each keeps at most two vectors.
fn threads_of(size: i64) -> i64 {
    ((size / VECTOR + 31) / 32 * 32).min(512)
}

/// x / rms(x) · weight.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Option<Tensor> {
    launch_rms_norm(x, None, weight, eps).map(|(_, normed)| normed)
}

/// s = x + y, and s / rms(s) · weight.
pub fn add_rms_norm(x: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Option<(Tensor, Tensor)> {
    launch_rms_norm(x, Some(y), weight, eps)
}

fn launch_rms_norm(x: &Tensor, y: Option<&Tensor>, weight: &Tensor, eps: f64) -> Option<(Tensor, Tensor)> {
    let ready = Ready::find(x, Source::Norms, "add_rms_norm")?;
    let (rows, size) = rows_of(x)?;
    if weight.kind() != x.kind() || y.is_some_and(|y| y.size() != x.size() || !y.is_contiguous()) {
        return None;
    }
    let normed = x.empty_like();
    let sum = if y.is_some() { x.empty_like() } else { x.shallow_clone() };
    let arguments = [
        Data(Some(x)),
        Data(y),
        Data(Some(weight)),
        Data(Some(&sum)),
        Data(Some(&normed)),
        Int(size as i32),
        Float(eps as f32),
    ];
    // SAFETY: all are contiguous, of one type and of `rows` · `size` numbers; the weight has `size`. Ahead of its turn it
    // reads nothing.
    unsafe { ready.launch_dependent([rows, 1, 1], threads_of(size), 0, &arguments) }?;
    Some((sum, normed))
}

/// Norms each head of queries and keys where they stand, as [`rms_norm`] does: qkv [..., 3 · heads · width]
/// holds queries, keys and values; the weights `[width]` are those of queries and of keys.
pub fn norm_heads(qkv: &Tensor, of_queries: &Tensor, of_keys: &Tensor, heads: i64, eps: f64) -> Option<()> {
    let ready = Ready::find(qkv, Source::Norms, "norm_heads")?;
    let (width, row) = (of_queries.numel() as i64, *qkv.size().last()?);
    let alike = |t: &&Tensor| t.kind() == qkv.kind() && t.is_contiguous() && t.numel() as i64 == width;
    let fits = row == 3 * heads * width && (VECTOR..=32 * VECTOR).contains(&width) && (width as u64).is_power_of_two();
    if !fits || !qkv.is_contiguous() || ![of_queries, of_keys].iter().all(alike) {
        return None;
    }
    let rows = qkv.numel() as i64 / row;
    let tensors = [qkv, of_queries, of_keys].map(|tensor| Data(Some(tensor)));
    let numbers = [Int(heads as i32), Int(width as i32), Long(rows), Float(eps as f32)];
    let arguments: Vec<Argument> = tensors.into_iter().chain(numbers).collect();
    // SAFETY: each of the rows has three times `heads` heads, the weights one head's width.
    unsafe { ready.launch([blocks(rows * 2 * heads * width / VECTOR), 1, 1], THREADS, 0, &arguments) }
}

/// Scale and shift of each picture's tokens after a norm without weights.
pub struct Modulation<'a> {
    /// [batch, size] each, rows of one distance from each other.
    pub shift: &'a Tensor,
    pub scale: &'a Tensor,
}

/// Layer norm of x [tokens, batch, size], times (1 + scale), plus shift.
pub fn modulated_norm(x: &Tensor, modulation: &Modulation, eps: f64) -> Option<Tensor> {
    launch_modulated(x, None, Some(modulation), eps).and_then(|(_, normed)| normed)
}

/// s = x + gate · y, and the modulated norm of s. `gate`: [batch, size].
pub fn gated_add_modulated_norm(
    x: &Tensor,
    y: &Tensor,
    gate: &Tensor,
    modulation: &Modulation,
    eps: f64,
) -> Option<(Tensor, Tensor)> {
    let (sum, normed) = launch_modulated(x, Some((y, gate)), Some(modulation), eps)?;
    Some((sum, normed?))
}

/// x + gate · y
pub fn gated_add(x: &Tensor, y: &Tensor, gate: &Tensor) -> Option<Tensor> {
    launch_modulated(x, Some((y, gate)), None, 0.0).map(|(sum, _)| sum)
}

fn launch_modulated(
    x: &Tensor,
    added: Option<(&Tensor, &Tensor)>,
    modulation: Option<&Modulation>,
    eps: f64,
) -> Option<(Tensor, Option<Tensor>)> {
    let ready = Ready::find(x, Source::Norms, "gated_add_modulated_norm")?;
    let modulated = Modulated::of(x, added, modulation, eps)?;
    let normed = modulation.map(|_| x.empty_like());
    // SAFETY: shapes, strides and types were checked; what is written is as large as x.
    unsafe { modulated.launch(ready, &[normed.as_ref()]) }?;
    Some((modulated.sum, normed))
}

/// What the modulated norms read, checked.
struct Modulated<'a> {
    x: &'a Tensor,
    added: Option<(&'a Tensor, &'a Tensor)>,
    modulation: Option<&'a Modulation<'a>>,
    eps: f64,
    /// x itself where nothing is added.
    sum: Tensor,
    rows: i64,
    size: i64,
    stride: i64,
}

impl<'a> Modulated<'a> {
    fn of(
        x: &'a Tensor,
        added: Option<(&'a Tensor, &'a Tensor)>,
        modulation: Option<&'a Modulation>,
        eps: f64,
    ) -> Option<Self> {
        let ((rows, size), 3) = (rows_of(x)?, x.dim()) else { return None };
        let pictures = *x.size().get(1)?;
        let per_picture: Vec<&Tensor> =
            added.iter().map(|(_, gate)| *gate).chain(modulation.iter().flat_map(|m| [m.shift, m.scale])).collect();
        let stride = per_picture.first()?.stride()[0];
        let alike = |t: &&Tensor| t.stride() == [stride, 1] && t.size() == [pictures, size] && t.kind() == x.kind();
        if stride % VECTOR != 0 || !per_picture.iter().all(alike) {
            return None;
        }
        if added.is_some_and(|(y, _)| y.size() != x.size() || !y.is_contiguous() || y.kind() != x.kind()) {
            return None;
        }
        let sum = if added.is_some() { x.empty_like() } else { x.shallow_clone() };
        Some(Self { x, added, modulation, eps, sum, rows, size, stride })
    }

    /// Starts a kernel that writes the sum, and the norm into `outs`.
    ///
    /// # Safety
    /// As of [`Ready::launch`]: `outs` are what the kernel writes beside the sum.
    unsafe fn launch(&self, ready: Ready, outs: &[Option<&Tensor>]) -> Option<()> {
        let (y, gate) = self.added.unzip();
        let (scale, shift) = self.modulation.map(|m| (m.scale, m.shift)).unzip();
        let tensors = [Some(self.x), y, gate, scale, shift, Some(&self.sum)];
        let tensors = tensors.into_iter().chain(outs.iter().copied()).map(Data);
        let pictures = self.x.size()[1];
        let numbers = [Int(self.size as i32), Int(pictures as i32), Long(self.stride), Float(self.eps as f32)];
        let arguments: Vec<Argument> = tensors.chain(numbers).collect();
        // SAFETY: as the caller promises.
        unsafe { ready.launch([self.rows, 1, 1], threads_of(self.size), 0, &arguments) }
    }
}

/// silu(gate) · up, where x [..., 2 · size] holds gate, then up.
pub fn silu_product(x: &Tensor) -> Option<Tensor> {
    product_of_halves(x, Source::Norms, "silu_product")
}

/// value · gelu(gate), where x [..., 2 · size] holds value, then gate.
pub fn gelu_product(x: &Tensor) -> Option<Tensor> {
    product_of_halves(x, Source::Pictures, "gelu_product")
}

fn product_of_halves(x: &Tensor, source: Source, name: &'static str) -> Option<Tensor> {
    let ready = Ready::find(x, source, name)?;
    let mut shape = x.size();
    let size = shape.pop()? / 2;
    if size == 0 || size % VECTOR != 0 || !x.is_contiguous() {
        return None;
    }
    shape.push(size);
    let out = Tensor::empty(&shape, (x.kind(), x.device()));
    let count = out.numel() as i64 / VECTOR;
    let arguments = [Data(Some(x)), Data(Some(&out)), Int(size as i32), Long(count)];
    // SAFETY: x has two halves of `size` for each row of out. Ahead of its turn it reads nothing.
    unsafe { ready.launch_dependent([blocks(count), 1, 1], THREADS, 0, &arguments) }?;
    Some(out)
}

fn blocks(count: i64) -> i64 {
    (count + THREADS - 1) / THREADS
}
