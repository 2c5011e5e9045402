//! Layer norms, of sums too.

use tch::Tensor;

use super::VECTOR;
use super::launch::Ready;
use super::rows_of;
use super::source::Source;
use crate::runtime::kernel::Argument::{Float, Int, Long, Tensor as Data};

/// Threads that take a row together.
const WARP: i64 = 32;
/// Rows from which on blocks of several warps keep a GPU busy.
const MANY_ROWS: i64 = 1024;
/// The kernels, by how many vectors of a row a thread takes.
const KERNELS: [&str; 5] =
    ["add_layer_norm_1", "add_layer_norm_2", "add_layer_norm_3", "add_layer_norm_4", "add_layer_norm_5"];

/// The norm of x · weight + bias.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Option<Tensor> {
    launch(x, None, [weight, bias], None, eps)
}

/// s = x + y, and its norm · weight + bias. `y` may have only the last axes of `x`.
pub fn add_layer_norm(x: &Tensor, y: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Option<(Tensor, Tensor)> {
    let sum = x.empty_like();
    launch(x, Some(y), [weight, bias], Some(&sum), eps).map(|normed| (sum, normed))
}

/// The norm of x + y, where the sum itself is not wanted.
pub fn layer_norm_of_sum(x: &Tensor, y: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Option<Tensor> {
    launch(x, Some(y), [weight, bias], None, eps)
}

fn launch(x: &Tensor, y: Option<&Tensor>, affine: [&Tensor; 2], sum: Option<&Tensor>, eps: f64) -> Option<Tensor> {
    let (rows, size) = rows_of(x)?;
    let name = KERNELS.get(((size / VECTOR - 1) / WARP) as usize)?;
    let ready = Ready::find(x, Source::ChainedNorms, name)?;
    let y_rows = match y {
        Some(y) => {
            // What `y` repeats over comes first: an axis of one, or none.
            let last_axes: Vec<i64> = y.size().into_iter().skip_while(|axis| *axis == 1).collect();
            rows_of(y).filter(|(y_rows, _)| *y_rows > 0 && x.size().ends_with(&last_axes))?.0
        }
        None => 1,
    };
    let mut others = y.into_iter().chain(affine);
    let alike = others.all(|t| t.kind() == x.kind() && t.device() == x.device());
    if rows == 0 || !alike || affine.iter().any(|t| t.size() != [size] || !t.is_contiguous()) {
        return None;
    }
    let normed = x.empty_like();
    let tensors = [Some(x), y, Some(affine[0]), Some(affine[1]), sum, Some(&normed)].map(Data);
    let numbers = [Int(size as i32), Long(rows), Long(y_rows), Float(eps as f32)];
    let arguments: Vec<_> = tensors.into_iter().chain(numbers).collect();
    let warps = if rows >= MANY_ROWS { 4 } else { 1 };
    // SAFETY: all are contiguous and of one type; x has `rows` · `size` numbers, y whole rows of them, and the
    // kernel takes rows of so many vectors. Ahead of its turn it reads weight and bias.
    unsafe { ready.launch_dependent([(rows + warps - 1) / warps, 1, 1], warps * WARP, 0, &arguments) }?;
    Some(normed)
}
