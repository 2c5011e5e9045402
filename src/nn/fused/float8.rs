//! Rows quantised to float8 with a scale each, on their way out of what stands before a linear layer.

use tch::{Kind, Tensor};

use super::launch::Ready;
use super::source::Source;
use super::{Modulated, Modulation, VECTOR};
use crate::runtime::kernel::Argument::{Int, Tensor as Data};

/// Longest row that a block quantises, and the vectors of it from which on each thread takes two.
const LONGEST_ROW: i64 = 16384;
const MANY_VECTORS: i64 = 512;

/// Rows of e4m3 as large as what they were made of, and float32 [rows, 1]: their product is that.
pub type Scaled = (Tensor, Tensor);

/// What is quantised of x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activated {
    Itself,
    /// Its GELU, approximated with tanh.
    GeluTanh,
}

/// The rows of x [..., size].
pub fn float8_rows(x: &Tensor, activated: Activated) -> Option<Scaled> {
    let name = match activated {
        Activated::Itself => "float8_rows",
        Activated::GeluTanh => "float8_gelu_rows",
    };
    let ready = Ready::find(x, Source::Float8, name)?;
    let size = *x.size().last()?;
    if size % VECTOR != 0 || !(1..=LONGEST_ROW).contains(&size) || !x.is_contiguous() {
        return None;
    }
    let rows = x.numel() as i64 / size;
    let (values, scales) = room(x, rows);
    let vectors = size / VECTOR;
    let threads = if vectors > MANY_VECTORS { (vectors + 1) / 2 } else { vectors };
    let arguments = [Data(Some(x)), Data(Some(&values)), Data(Some(&scales)), Int(size as i32)];
    // SAFETY: x is contiguous, what is written has its numbers, and a scale for each row; a thread takes two vectors at
    // most.
    unsafe { ready.launch([rows, 1, 1], (threads + 31) / 32 * 32, 0, &arguments) }?;
    Some((values, scales))
}

/// s = x + gate · y where something is added, else x, and the rows of the modulated norm of s; see
/// [`gated_add_modulated_norm`](super::gated_add_modulated_norm).
pub fn gated_add_modulated_norm_float8(
    x: &Tensor,
    added: Option<(&Tensor, &Tensor)>,
    modulation: &Modulation,
    eps: f64,
) -> Option<(Tensor, Scaled)> {
    let ready = Ready::find(x, Source::Float8, "float8_gated_add_modulated_norm")?;
    let modulated = Modulated::of(x, added, Some(modulation), eps)?;
    let (values, scales) = room(x, modulated.rows);
    // SAFETY: shapes, strides and types were checked; the values are as many as x has, the scales as its rows.
    unsafe { modulated.launch(ready, &[Some(&values), Some(&scales)]) }?;
    Some((modulated.sum, (values, scales)))
}

fn room(x: &Tensor, rows: i64) -> Scaled {
    let device = x.device();
    (Tensor::empty(x.size(), (Kind::Float8e4m3fn, device)), Tensor::empty([rows, 1], (Kind::Float, device)))
}
