//! NaN and infinity in weights, found while they are loaded.

use std::error::Error;
use std::fmt;

use anyhow::Result;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Bytes that one thread looks at between two looks at what the others found.
const CHUNK: usize = 1 << 17;

/// Whether every number of a tensor is finite. On the CPU dense tensors are scanned in place on all
/// cores, at about the speed of memory; integers are finite by nature.
pub fn is_finite(tensor: &Tensor) -> bool {
    let Some(scan) = scan(tensor.kind()) else { return true };
    if tensor.numel() == 0 {
        return true;
    }
    if tensor.device() != Device::Cpu || !tensor.is_contiguous() {
        let tensor =
            if tensor.kind().elt_size_in_bytes() == 1 { tensor.to_kind(Kind::Half) } else { tensor.shallow_clone() };
        return tensor.isfinite().all().int64_value(&[]) != 0;
    }
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    // SAFETY: a dense CPU tensor of so many bytes, borrowed for the whole scan.
    let bytes = unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), length) };
    bytes.par_chunks(CHUNK).all(scan)
}

/// Says of bytes whether all numbers in them are finite.
pub(super) type Scan = fn(&[u8]) -> bool;

/// That of numbers of this kind; None where all are finite by nature.
pub(super) fn scan(kind: Kind) -> Option<Scan> {
    // NaN and infinity are the numbers whose exponent bits are all ones; the first kind of float8 has no infinity, and one NaN.
    Some(match kind {
        Kind::Double => |bytes| none_has(bytes, |word| u64::from_le_bytes(word) & 0x7ff0 << 48 == 0x7ff0 << 48),
        Kind::Float => |bytes| none_has(bytes, |word| u32::from_le_bytes(word) & 0x7f80_0000 == 0x7f80_0000),
        Kind::BFloat16 => |bytes| none_has(bytes, |word| u16::from_le_bytes(word) & 0x7f80 == 0x7f80),
        Kind::Half => |bytes| none_has(bytes, |word| u16::from_le_bytes(word) & 0x7c00 == 0x7c00),
        Kind::Float8e4m3fn => |bytes| none_has(bytes, |[word]| word & 0x7f == 0x7f),
        Kind::Float8e5m2 => |bytes| none_has(bytes, |[word]| word & 0x7c == 0x7c),
        _ => return None,
    })
}

/// Without an early end, which is what the compiler makes vector instructions of.
fn none_has<const N: usize>(bytes: &[u8], is_wrong: impl Fn([u8; N]) -> bool) -> bool {
    !bytes.as_chunks().0.iter().fold(false, |found, &word| found | is_wrong(word))
}

/// Whether a finite number of the kind `stored` may be too great for the kind `loaded`.
pub(super) fn may_overflow(stored: Kind, loaded: Kind) -> bool {
    // In the order of their greatest numbers.
    let reach = |kind| match kind {
        Kind::Float8e4m3fn => 0,
        Kind::Float8e5m2 => 1,
        Kind::Half => 2,
        Kind::BFloat16 => 3,
        Kind::Float => 4,
        _ => 5,
    };
    reach(loaded) < reach(stored)
}

/// A number that was read is NaN or infinite.
#[derive(Debug)]
pub(super) struct NotFinite;

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it holds NaN or infinity")
    }
}

impl Error for NotFinite {}

/// The least and the greatest number of a tensor, on its device: a NaN comes through, and an infinity is one of them. One
/// pass, where asking each number would be six. None where every number is finite by nature.
pub fn extremes(tensor: &Tensor) -> Result<Option<[Tensor; 2]>> {
    if scan(tensor.kind()).is_none() || tensor.numel() == 0 {
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
    fn what_is_not_finite_is_found_wherever_it_stands() {
        for kind in [Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half, Kind::Float8e5m2, Kind::Float8e4m3fn] {
            let good = || Tensor::from_slice(&[0.0, -3.0, 440.0, 1.0]).to_kind(Kind::Float).repeat([50_000]);
            assert!(is_finite(&good().to_kind(kind)), "{kind:?}");
            for (place, wrong) in [(0, f64::NAN), (99_999, f64::INFINITY), (199_999, f64::NEG_INFINITY)] {
                let bad = good();
                let _ = bad.get(place).fill_(wrong);
                let bad = bad.to_kind(kind);
                assert!(!is_finite(&bad), "{kind:?} {wrong}");
                // On a device, and where it is not dense.
                assert!(!is_finite(&bad.view([2, 100_000]).transpose(0, 1)), "{kind:?} {wrong}");
            }
        }
        assert!(is_finite(&Tensor::from_slice(&[i64::MAX, i64::MIN])));
        assert!(may_overflow(Kind::Float, Kind::BFloat16) && may_overflow(Kind::BFloat16, Kind::Half));
        assert!(!may_overflow(Kind::Half, Kind::BFloat16) && !may_overflow(Kind::Half, Kind::Half));
    }

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
