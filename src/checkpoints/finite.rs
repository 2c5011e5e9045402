//! NaN and infinity in weights, found while they are loaded.

use anyhow::Result;
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

/// The least and the greatest number of a tensor, on its device: a NaN comes through, and an infinity is one of them. One
/// pass, where asking each number would be six. None where every number is finite by nature.
pub fn extremes(tensor: &Tensor) -> Result<Option<[Tensor; 2]>> {
    if !super::read::is_float(tensor.kind()) || tensor.numel() == 0 {
        return Ok(None);
    }
    let (least, greatest) = tensor.f_aminmax(None, false)?;
    Ok(Some([least, greatest]))
}

/// The first of these names whose [`extremes`] are not finite, with one wait for the device for each number type among them.
///
/// # Errors
/// When the device fails.
pub fn first_not_finite(tensors: &[(String, [Tensor; 2])]) -> Result<Option<&str>> {
    let mut first = tensors.len();
    let mut kinds: Vec<Kind> = Vec::new();
    for (_, extremes) in tensors {
        let kind = extremes[0].kind();
        if kinds.contains(&kind) {
            continue;
        }
        kinds.push(kind);
        let alike: Vec<usize> = (0..tensors.len()).filter(|&i| tensors[i].1[0].kind() == kind).collect();
        let both: Vec<&Tensor> = alike.iter().flat_map(|&i| &tensors[i].1).collect();
        let finite = Tensor::f_stack(&both, 0)?.f_isfinite()?.f_to_kind(Kind::Uint8)?.f_to_device(Device::Cpu)?;
        let finite = Vec::<u8>::try_from(&finite)?;
        let wrong = alike.iter().zip(finite.chunks(2)).find(|(_, pair)| pair.contains(&0));
        first = wrong.map_or(first, |(&at, _)| first.min(at));
    }
    Ok(tensors.get(first).map(|(name, _)| name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tensor_with_a_number_that_is_not_finite_is_named() {
        let good = |kind| Tensor::from_slice(&[0.0, -3.0, 6e4, 1.0]).to_kind(kind);
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double] {
            for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut bad = good(kind);
                let _ = bad.get(2).fill_(wrong);
                let named = |tensors: [&Tensor; 3]| -> Vec<(String, [Tensor; 2])> {
                    let extremes = |(i, x): (usize, &&Tensor)| (i.to_string(), extremes(x).unwrap().unwrap());
                    tensors.iter().enumerate().map(extremes).collect()
                };
                let other = good(Kind::Float);
                assert_eq!(first_not_finite(&named([&other, &bad, &bad])).unwrap(), Some("1"), "{kind:?} {wrong}");
                assert_eq!(
                    first_not_finite(&named([&other, &good(kind), &bad])).unwrap(),
                    Some("2"),
                    "{kind:?} {wrong}"
                );
                assert_eq!(first_not_finite(&named([&good(kind), &other, &other])).unwrap(), None);
                bad = bad.view([2, 2]).transpose(0, 1);
                assert_eq!(first_not_finite(&named([&bad, &other, &other])).unwrap(), Some("0"), "{kind:?} {wrong}");
            }
        }
        assert_eq!(first_not_finite(&[]).unwrap(), None);
        assert!(extremes(&Tensor::from_slice(&[1i64])).unwrap().is_none());
        assert!(extremes(&Tensor::zeros([0, 3], (Kind::Half, Device::Cpu))).unwrap().is_none());
    }
}
