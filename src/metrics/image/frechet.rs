//! Fréchet distance between two sets of features, in float64, without matrix square roots.
//!
//! For centred feature matrices A [n, d] and B [m, d], tr (Σa Σb)^½ is the sum of the singular values
//! of A·Bᵀ / √((n-1)(m-1)). That matrix is [n, m]: cheap where pictures are few, exact where the
//! covariances are singular. Where a set has more pictures than features, its triangular QR factor
//! [d, d] stands in for it, which leaves the singular values as they are.
//!
//! Everything is computed where the features are, on the CPU or on a GPU.

use std::cell::OnceCell;

use anyhow::{Result, bail, ensure};
use tch::{Device, Kind, TchError, Tensor};

use crate::nn;
use crate::runtime::Background;

/// A set of features as a normal distribution.
#[derive(Debug)]
pub struct Gaussian {
    /// [d]
    mean: Tensor,
    /// Centred rows / √(n-1): [n, d]. Σ = rowsᵀ·rows.
    rows: Tensor,
    /// Of [`Self::factor`], once it is known.
    factor: OnceCell<Tensor>,
}

impl Gaussian {
    /// From features [pictures, features] of any number type on any device.
    pub fn fit(features: &Tensor) -> Result<Self> {
        let size = features.size();
        let &[n, d] = size.as_slice() else { bail!("features are [pictures, features], not {size:?}") };
        ensure!(n >= 2 && d >= 1, "a distribution needs at least 2 pictures, here {n}");
        let features = features.to_kind(Kind::Double);
        let finite = features.isfinite().all().int64_value(&[]) == 1;
        ensure!(finite, "some features are not finite numbers: are the weights damaged, or is float16 too narrow?");
        let mean = features.mean_dim([0i64].as_slice(), false, Kind::Double);
        let rows = (features - &mean) / ((n - 1) as f64).sqrt();
        Ok(Self { mean, rows, factor: OnceCell::new() })
    }

    /// `[features]`
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    fn pictures(&self) -> i64 {
        self.rows.size()[0]
    }

    /// A matrix with the same singular values and at most `features` rows. It takes a while, once.
    pub fn factor(&self) -> Result<&Tensor> {
        if let Some(factor) = self.factor.get() {
            return Ok(factor);
        }
        let is_tall = self.pictures() > self.rows.size()[1];
        let factor = match is_tall {
            true => on_device_or_cpu(&self.rows, |rows| Tensor::f_linalg_qr(rows, "r"))?.1,
            false => self.rows.shallow_clone(),
        };
        Ok(self.factor.get_or_init(|| factor))
    }

    /// tr Σ
    fn variance(&self) -> f64 {
        self.rows.square().sum(Kind::Double).double_value(&[])
    }
}

/// A factorization on the device of `x`, or on the CPU where libtorch cannot do it there (its solvers
/// for CUDA are a library of their own, which may be missing).
fn on_device_or_cpu(
    x: &Tensor,
    factorize: impl Fn(&Tensor) -> Result<(Tensor, Tensor), TchError>,
) -> Result<(Tensor, Tensor)> {
    match factorize(x) {
        Err(refused) if x.device().is_cuda() => {
            tracing::debug!("factorized on the CPU: {refused}");
            let (first, second) = factorize(&x.to_device(Device::Cpu))?;
            Ok((first.to_device(x.device()), second.to_device(x.device())))
        }
        result => Ok(result?),
    }
}

/// |μa - μb|² + tr Σa + tr Σb, everything but the mixed term.
fn separate_terms(a: &Gaussian, b: &Gaussian) -> Result<f64> {
    let (da, db) = (a.mean.size()[0], b.mean.size()[0]);
    ensure!(da == db, "the two sets have {da} and {db} features: they come from different networks");
    let means = (&a.mean - &b.mean).square().sum(Kind::Double).double_value(&[]);
    Ok(means + a.variance() + b.variance())
}

/// The parts of X [rows, columns] along its left singular vectors, Uᵀ·X: [rank, columns]. Their lengths
/// are the singular values.
///
/// U comes from the eigenvectors of X·Xᵀ, several times faster than a singular value decomposition, on
/// a GPU above all. The eigen*values* would lose what is smaller than 10⁻⁸ of the largest; the lengths
/// do not. X must not have more rows than columns for this to be cheap.
fn principal_parts(x: &Tensor) -> Result<Tensor> {
    let (_, left) = on_device_or_cpu(&x.matmul(&x.tr()), |gram| gram.f_linalg_eigh("L"))?;
    Ok(left.tr().matmul(x))
}

/// Lengths of the rows.
fn lengths(x: &Tensor) -> Tensor {
    x.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double).sqrt()
}

/// The (squared) Fréchet distance: FID, when the features are those of an Inception.
pub fn distance(a: &Gaussian, b: &Gaussian) -> Result<f64> {
    let separate = separate_terms(a, b)?;
    let (a, b) = (a.factor()?, b.factor()?);
    let (fewer, more) = if a.size()[0] <= b.size()[0] { (a, b) } else { (b, a) };
    let values = lengths(&principal_parts(&fewer.matmul(&more.tr()))?);
    Ok(separate - 2.0 * values.sum(Kind::Double).double_value(&[]))
}

/// The distance from `fixed` to `sampled`, and how much each picture of `sampled` moves it: the
/// derivative with respect to the picture's weight, where every weight is 1.
///
/// A bootstrap on these (distance + Σ (count - 1)·influence) has the spread of a bootstrap of FID
/// itself without its fault: drawing pictures twice makes a set look poorer than it is, which lifts
/// every FID of a resample above that of the sample.
pub fn distance_with_influence(fixed: &Gaussian, sampled: &Gaussian) -> Result<(f64, Vec<f64>)> {
    let separate = separate_terms(fixed, sampled)?;
    let m = sampled.pictures() as f64;
    let mixed = fixed.factor()?.matmul(&sampled.rows.tr()); // [n or d, m] = U·S·Vᵀ
    let (values, of_pictures) = if mixed.size()[0] <= mixed.size()[1] {
        let parts = principal_parts(&mixed)?; // S·Vᵀ
        let values = lengths(&parts);
        // Where a singular value is 0, its part is too.
        let of_pictures = (parts.square() / values.clamp_min(f64::MIN_POSITIVE).unsqueeze(1)).transpose(0, 1);
        (values, of_pictures)
    } else {
        let (_, right) = on_device_or_cpu(&mixed.tr().matmul(&mixed), |gram| gram.f_linalg_eigh("L"))?; // V
        let values = lengths(&mixed.matmul(&right).tr());
        let of_pictures = right.square() * &values;
        (values, of_pictures)
    };
    let mixed = of_pictures.sum_dim_intlist([1i64].as_slice(), false, Kind::Double); // [m]: diag V·S·Vᵀ
    let own = sampled.rows.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    // rows carry 1/√(m-1); the mean's derivative needs the plain rows over m.
    let means = sampled.rows.mv(&(&fixed.mean - &sampled.mean)) * (-2.0 * (m - 1.0).sqrt() / m);
    let influence = Vec::<f64>::try_from((own - mixed + means).to_device(Device::Cpu))?;
    Ok((separate - 2.0 * values.sum(Kind::Double).double_value(&[]), influence))
}

/// Has libtorch load its solvers for a GPU in the background: half a second that can pass while pictures
/// are measured. On the CPU there is nothing to load.
pub fn warm_up(device: Device) -> Option<Background> {
    let fit_twice = move || {
        let features = Tensor::eye_m(600, 512, (Kind::Double, device));
        let fit = || Gaussian::fit(&features);
        distance_with_influence(&fit()?, &fit()?)
    };
    nn::warm_up(device, move || drop(fit_twice()))
}

/// FID extrapolated to sets without end: FID is measured at several sample sizes, and the line
/// through FID over 1/size is read at 0, because FID's bias shrinks with 1/size.
///
/// Each sample is a pair of row numbers, of `a` and of `b`; `sizes` is what goes into the line.
pub fn extrapolated(a: &Tensor, b: &Tensor, sizes: &[usize], samples: &[(Tensor, Tensor)]) -> Result<f64> {
    ensure!(sizes.len() == samples.len() && sizes.len() >= 2, "a line needs at least 2 sample sizes");
    let mut points = Vec::new();
    for (&size, (rows_a, rows_b)) in sizes.iter().zip(samples) {
        let chosen = |set: &Tensor, rows: &Tensor| Gaussian::fit(&set.index_select(0, &rows.to_device(set.device())));
        let fid = distance(&chosen(a, rows_a)?, &chosen(b, rows_b)?)?;
        points.push((1.0 / size as f64, fid));
    }
    Ok(value_at_zero(&points))
}

/// Least squares; a flat line where all x are equal.
fn value_at_zero(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (mean_x, mean_y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let spread: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    let slope =
        if spread > 0.0 { points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum::<f64>() / spread } else { 0.0 };
    mean_y - slope * mean_x
}

/// `points` sizes in equal steps from `first` to `last`, cut to integers, as NumPy's
/// `linspace(first, last, points).astype(int)`.
pub fn sample_sizes(first: usize, last: usize, points: usize) -> Vec<usize> {
    let step = (last as f64 - first as f64) / (points.max(2) - 1) as f64;
    let mut sizes: Vec<usize> = (0..points).map(|i| (first as f64 + i as f64 * step) as usize).collect();
    if let Some(end) = sizes.last_mut() {
        *end = last;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::NoiseGenerator;

    fn features(n: i64, d: i64, shift: f64) -> Tensor {
        let drawn =
            NoiseGenerator::new((10.0 * shift) as u64 + n as u64).unwrap().normal(&[n, d], Kind::Double).unwrap();
        drawn * Tensor::linspace(1.0, 0.1, d, (Kind::Double, Device::Cpu)) + shift
    }

    #[test]
    fn one_feature_has_a_closed_form() {
        let a = Tensor::from_slice(&[0.0, 2.0, 4.0]).view([3, 1]); // mean 2, variance 4
        let b = Tensor::from_slice(&[1.0, 2.0]).view([2, 1]); // mean 1.5, variance 0.5
        let expected = 0.25 + 4.0 + 0.5 - 2.0 * 2.0f64.sqrt();
        let fid = distance(&Gaussian::fit(&a).unwrap(), &Gaussian::fit(&b).unwrap()).unwrap();
        assert!((fid - expected).abs() < 1e-12);
    }

    #[test]
    fn influence_is_the_derivative_for_few_and_for_many_pictures() {
        for (n, m, d) in [(6, 5, 9), (30, 40, 7), (30, 5, 7), (5, 30, 7)] {
            let fixed = Gaussian::fit(&features(n, d, 0.0)).unwrap();
            let sampled = features(m, d, 0.3);
            let (fid, influence) = distance_with_influence(&fixed, &Gaussian::fit(&sampled).unwrap()).unwrap();
            assert!((fid - distance(&fixed, &Gaussian::fit(&sampled).unwrap()).unwrap()).abs() < 1e-9);
            for i in 0..m {
                // FID with picture i weighing 1 ± h, by the definition of weighted mean and covariance.
                let at = |h: f64| {
                    let mut weights = vec![1.0 - h / (m - 1) as f64; m as usize];
                    weights[i as usize] = 1.0 + h;
                    weighted_distance(&fixed, &sampled, &weights)
                };
                let slope = (at(1e-4) - at(-1e-4)) / 2e-4;
                let others = influence.iter().sum::<f64>() - influence[i as usize];
                let expected = influence[i as usize] - others / (m - 1) as f64;
                assert!((slope - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{slope} {expected}");
            }
        }
    }

    fn weighted_distance(fixed: &Gaussian, sampled: &Tensor, weights: &[f64]) -> f64 {
        let m = weights.len() as f64;
        let weights = Tensor::from_slice(weights).view([-1, 1]);
        let mean = (sampled * &weights).sum_dim_intlist([0i64].as_slice(), false, Kind::Double) / m;
        let rows = (sampled - &mean) * weights.sqrt() / (m - 1.0).sqrt();
        distance(fixed, &Gaussian { mean, rows, factor: OnceCell::new() }).unwrap()
    }

    #[test]
    fn equal_sets_have_no_distance_and_order_does_not_matter() {
        let (a, b) = (Gaussian::fit(&features(20, 8, 0.0)).unwrap(), Gaussian::fit(&features(6, 8, 0.5)).unwrap());
        assert!(distance(&a, &a).unwrap().abs() < 1e-9);
        assert!((distance(&a, &b).unwrap() - distance(&b, &a).unwrap()).abs() < 1e-9);
    }

    #[test]
    fn sizes_and_line_are_numpys() {
        assert_eq!(sample_sizes(10, 20, 4), [10, 13, 16, 20]);
        assert_eq!(sample_sizes(5000, 64, 3), [5000, 2532, 64]);
        let line: Vec<(f64, f64)> = [1.0, 2.0, 5.0].iter().map(|x| (*x, 3.0 + 2.0 * x)).collect();
        assert!((value_at_zero(&line) - 3.0).abs() < 1e-12);
        assert_eq!(value_at_zero(&[(1.0, 2.0), (1.0, 4.0)]), 3.0);
    }

    #[test]
    fn nothing_is_made_of_one_picture_or_of_nan() {
        assert!(Gaussian::fit(&features(1, 4, 0.0)).is_err());
        assert!(Gaussian::fit(&(features(3, 4, 0.0) * f64::NAN)).is_err());
    }
}
