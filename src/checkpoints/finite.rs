//! NaN and infinity in weights, found while they are loaded.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Whether every number of a tensor is finite. On the CPU dense tensors are scanned in place on all
/// cores, at about the speed of memory; integers are finite by nature.
pub fn is_finite(tensor: &Tensor) -> bool {
    let kind = tensor.kind();
    if !super::read::is_float(kind) || tensor.numel() == 0 {
        return true;
    }
    if matches!(kind, Kind::Float8e4m3fn | Kind::Float8e5m2) {
        return is_finite(&tensor.to_kind(Kind::Half));
    }
    if tensor.device() != Device::Cpu || !tensor.is_contiguous() {
        return tensor.isfinite().all().int64_value(&[]) != 0;
    }
    let (start, count) = (tensor.data_ptr() as *const u8, tensor.numel());
    // SAFETY: a dense CPU tensor of `count` elements, borrowed for the whole scan; libtorch aligns
    // its memory, and the reader of files never makes a tensor over unaligned bytes.
    unsafe {
        match kind {
            Kind::Double => words_finite(std::slice::from_raw_parts(start as *const u64, count), 0x7ff0_0000_0000_0000),
            Kind::Float => words_finite(std::slice::from_raw_parts(start as *const u32, count), 0x7f80_0000),
            Kind::BFloat16 => words_finite(std::slice::from_raw_parts(start as *const u16, count), 0x7f80),
            _ => words_finite(std::slice::from_raw_parts(start as *const u16, count), 0x7c00),
        }
    }
}

/// NaN and infinity are the numbers whose exponent bits are all ones.
fn words_finite<T>(words: &[T], exponent: T) -> bool
where
    T: Copy + Sync + Send + PartialEq + std::ops::BitAnd<Output = T>,
{
    // A chunk without early exit is what the compiler makes vector instructions of.
    let chunk_finite = |chunk: &[T]| !chunk.iter().fold(false, |found, &word| found | (word & exponent == exponent));
    words.par_chunks(1 << 16).all(chunk_finite)
}

/// The first of these names whose tensor is not finite, with one wait for the device for all of them.
pub fn first_not_finite(flags: &[(String, Tensor)]) -> Option<&str> {
    if flags.is_empty() {
        return None;
    }
    let all: Vec<&Tensor> = flags.iter().map(|(_, flag)| flag).collect();
    let finite = Tensor::stack(&all, 0).to_kind(Kind::Uint8).to_device(Device::Cpu);
    let finite = Vec::<u8>::try_from(&finite).unwrap_or_default();
    finite.iter().position(|&flag| flag == 0).map(|at| flags[at].0.as_str())
}
