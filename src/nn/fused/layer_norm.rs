//! Layer norms of sums.

use tch::Tensor;

use super::launch::{Ready, Source};
use super::{rows_of, threads_of};
use crate::runtime::kernel::Argument::{Float, Int, Long, Tensor as Data};

/// s = x + y, and its norm · weight + bias. `y` may have only the last axes of `x`.
pub fn add_layer_norm(x: &Tensor, y: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Option<(Tensor, Tensor)> {
    let sum = x.empty_like();
    launch(x, y, [weight, bias], Some(&sum), eps).map(|normed| (sum, normed))
}

/// The norm of x + y, where the sum itself is not wanted.
pub fn layer_norm_of_sum(x: &Tensor, y: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Option<Tensor> {
    launch(x, y, [weight, bias], None, eps)
}

fn launch(x: &Tensor, y: &Tensor, affine: [&Tensor; 2], sum: Option<&Tensor>, eps: f64) -> Option<Tensor> {
    let ready = Ready::find(x, Source::ChainedNorms, "add_layer_norm")?;
    let (rows, size) = rows_of(x)?;
    let (y_rows, _) = rows_of(y)?;
    // What `y` repeats over comes first: an axis of one, or none.
    let last_axes: Vec<i64> = y.size().into_iter().skip_while(|axis| *axis == 1).collect();
    let repeats = y_rows > 0 && x.size().ends_with(&last_axes);
    let alike = [y, affine[0], affine[1]].iter().all(|t| t.kind() == x.kind() && t.device() == x.device());
    if !repeats || !alike || affine.iter().any(|t| t.size() != [size] || !t.is_contiguous()) {
        return None;
    }
    let normed = x.empty_like();
    let tensors = [Some(x), Some(y), Some(affine[0]), Some(affine[1]), sum, Some(&normed)].map(Data);
    let arguments: Vec<_> = tensors.into_iter().chain([Int(size as i32), Long(y_rows), Float(eps as f32)]).collect();
    // SAFETY: all are contiguous and of one type; x has `rows` · `size` numbers, y whole rows of them. Ahead of
    // its turn the kernel reads weight and bias.
    unsafe { ready.launch_early([rows, 1, 1], threads_of(size), 0, &arguments) }?;
    Some(normed)
}
