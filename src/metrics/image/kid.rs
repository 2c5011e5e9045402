//! KID: the kernel distance between the features of pictures and of style pictures (Bińkowski et al., "Demystifying MMD
//! GANs", <https://arxiv.org/abs/1801.01401>), here in art-Inception.
//!
//! It is the unbiased estimate of the squared maximum mean discrepancy with the kernel (x·y/d + 1)³, over all features of
//! both sets and not over random subsets. It has no bias at small counts, where FID has, and may come out negative.
//!
//! Source of the kernel and the estimate: <https://github.com/Lightning-AI/torchmetrics> (`image/kid.py`); Gretton et
//! al., "A kernel two-sample test", JMLR 2012, equation 3.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::{BetweenSets, INCEPTIONS, PictureMetric, PictureSet};
use crate::metrics::stats::{Interval, draws};
use crate::metrics::{About, Metric, Show, Value};

/// KID of the pictures of a strategy, or of two folders.
#[derive(Debug)]
pub struct Kid;

static ABOUT: About = About {
    name: "kid",
    label: "KID",
    axis: "KID (squared MMD from the style pictures)",
    help: "kernel distance from the style pictures, without FID's bias; lower is better. Below it the 95 % interval",
    compares: "pictures with style pictures",
    higher_is_better: false,
    needs: &["art-inception"],
    item: None,
    interval: true,
    show: Show::Compared,
    by_default: false,
    width: 12,
};

impl Metric for Kid {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn of_pictures(&self) -> Option<&dyn PictureMetric> {
        Some(self)
    }
}

impl PictureMetric for Kid {
    fn of_set(&self, pictures: &PictureSet) -> Result<Value> {
        kid(&pictures.drawn, &pictures.style, pictures.options.resamples, pictures.options.seed)
    }

    fn moves(&self, pictures: &PictureSet) -> Result<Vec<f64>> {
        moves(&pictures.drawn, &pictures.style)
    }

    fn of_features(&self) -> Option<BetweenSets> {
        Some(BetweenSets {
            networks: INCEPTIONS,
            help: "Kernel distance (KID) between two folders of pictures: unbiased, with its interval over the first",
            least: [2, 2],
            compare: |a, b, options| kid(a, b, options.resamples, options.seed),
        })
    }
}

/// Rows of the kernel that are in memory at a time.
const BLOCK: i64 = 512;

/// KID of features [n, features] beside reference features [m, features], in float64 on their device, with its interval
/// over the choice of the n pictures, the reference being what it is (`resamples` = 0: none).
///
/// A resample weighs each pair of different pictures by how often both were drawn: a picture beside its own copy says
/// nothing of the distribution, and would lift every resample above the estimate.
pub fn kid(features: &Tensor, reference: &Tensor, resamples: usize, seed: u64) -> Result<Value> {
    let (x, y) = (rows(features)?, rows(reference)?);
    ensure!(x.size()[1] == y.size()[1], "the two sets have {} and {} features", x.size()[1], y.size()[1]);
    let (n, m) = (x.size()[0], y.size()[0]);
    let counts: Vec<f64> = draws(n as usize, resamples, seed).flatten().collect();
    // [1 + resamples, n]: the first weighs every picture once.
    let drawn = Tensor::from_slice(&counts).view([resamples as i64, n]);
    let weights = Tensor::cat(&[Tensor::ones([1, n], (Kind::Double, Device::Cpu)), drawn], 0).to_device(x.device());
    let ones = Tensor::ones([1, m], (Kind::Double, y.device()));
    let among_reference = weighted_pairs(&y, &ones).double_value(&[0]) / (m * (m - 1)) as f64;
    let squares = weights.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    let pairs = (n * n) as f64 - squares; // Σ over i ≠ j of wᵢ·wⱼ
    let across = weights.matmul(&mean_kernel(&x, &y)) * (2.0 / n as f64);
    let scores = weighted_pairs(&x, &weights) / pairs + among_reference - across;
    let mut scores = Vec::<f64>::try_from(scores.to_device(Device::Cpu))?;
    let value = scores.remove(0);
    // A resample of one picture alone has no pairs.
    scores.retain(|score| score.is_finite());
    let interval = if scores.is_empty() { None } else { Some(Interval::of(&mut scores)?) };
    Ok(Value::new(value, interval))
}

/// How each of the n pictures moves KID: twice its mean kernel with the other pictures, less twice that with the reference
/// (the projection of the unbiased estimate on single pictures, but for a constant).
pub fn moves(features: &Tensor, reference: &Tensor) -> Result<Vec<f64>> {
    let (x, y) = (rows(features)?, rows(reference)?);
    ensure!(x.size()[1] == y.size()[1], "the two sets have {} and {} features", x.size()[1], y.size()[1]);
    let n = x.size()[0] as f64;
    let own = (x.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double) / x.size()[1] as f64 + 1.0)
        .pow_tensor_scalar(3);
    let among = (mean_kernel(&x, &x) * n - own) / (n - 1.0);
    Ok(Vec::try_from(((among - mean_kernel(&x, &y)) * 2.0).to_device(Device::Cpu))?)
}

/// The features in float64, at least two and all of them numbers.
fn rows(features: &Tensor) -> Result<Tensor> {
    let size = features.size();
    ensure!(size.len() == 2 && size[0] >= 2, "KID needs at least 2 pictures of each set, features are {size:?}");
    let features = features.to_kind(Kind::Double);
    let finite = features.isfinite().all().int64_value(&[]) == 1;
    ensure!(finite, "some features are not finite numbers: are the weights damaged, or is float16 too narrow?");
    Ok(features)
}

/// (x·y/d + 1)³ of every pair: [rows of x, rows of y].
fn kernel(x: &Tensor, y: &Tensor) -> Tensor {
    let d = x.size()[1] as f64;
    (x.matmul(&y.tr()) / d + 1.0).pow_tensor_scalar(3)
}

/// The mean kernel of each row of `x` with those of `y`: [rows of x].
fn mean_kernel(x: &Tensor, y: &Tensor) -> Tensor {
    let block = |start: i64| {
        let own = x.narrow(0, start, BLOCK.min(x.size()[0] - start));
        kernel(&own, y).mean_dim([1i64].as_slice(), false, Kind::Double)
    };
    Tensor::cat(&blocks(x).map(block).collect::<Vec<_>>(), 0)
}

/// Σ over i ≠ j of wᵢ·wⱼ·k(xᵢ, xⱼ) for each row of `weights` [resamples, rows of x]: [resamples].
fn weighted_pairs(x: &Tensor, weights: &Tensor) -> Tensor {
    let mut sum = Tensor::zeros([weights.size()[0]], (Kind::Double, x.device()));
    for start in blocks(x) {
        let count = BLOCK.min(x.size()[0] - start);
        let k = kernel(&x.narrow(0, start, count), x); // [count, n]
        let _ = k.narrow(1, start, count).diagonal(0, 0, 1).zero_();
        let beside = weights.matmul(&k.tr()); // [resamples, count]
        sum += (beside * weights.narrow(1, start, count)).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    }
    sum
}

fn blocks(x: &Tensor) -> impl Iterator<Item = i64> {
    (0..x.size()[0]).step_by(BLOCK as usize)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    thread_local!(static GENERATOR: RefCell<ChaCha8Rng> = RefCell::new(ChaCha8Rng::seed_from_u64(0)));

    /// libtorch's generator is one for all tests of the program, which run beside each other.
    fn seed(seed: u64) {
        GENERATOR.set(ChaCha8Rng::seed_from_u64(seed));
    }

    /// Nearly normal: sums of twelve even numbers from 0 to 1, less their mean.
    fn features(n: i64, d: i64, shift: f64) -> Tensor {
        let number = |generator: &mut ChaCha8Rng| (0..12).map(|_| generator.random::<f64>()).sum::<f64>() - 6.0;
        let numbers = |generator: &mut ChaCha8Rng| (0..n * d).map(|_| number(generator)).collect::<Vec<f64>>();
        Tensor::from_slice(&GENERATOR.with_borrow_mut(numbers)).view([n, d]) + shift
    }

    /// By the definition, pair by pair.
    fn plain(x: &Tensor, y: &Tensor, weights: &[f64]) -> f64 {
        let of = |rows: &Tensor| Vec::<Vec<f64>>::try_from(rows).unwrap();
        let (x, y) = (of(x), of(y));
        let k =
            |a: &[f64], b: &[f64]| (a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / a.len() as f64 + 1.0).powi(3);
        let inside = |set: &[Vec<f64>], weights: &[f64]| {
            let (mut sum, mut pairs) = (0.0, 0.0);
            for (i, a) in set.iter().enumerate() {
                for (j, b) in set.iter().enumerate().filter(|(j, _)| *j != i) {
                    sum += weights[i] * weights[j] * k(a, b);
                    pairs += weights[i] * weights[j];
                }
            }
            sum / pairs
        };
        let total: f64 = weights.iter().sum();
        let across: f64 = x.iter().zip(weights).flat_map(|(a, w)| y.iter().map(move |b| w * k(a, b))).sum();
        inside(&x, weights) + inside(&y, &vec![1.0; y.len()]) - 2.0 * across / (total * y.len() as f64)
    }

    #[test]
    fn value_and_interval_are_those_of_the_definition() {
        seed(5);
        let (x, y) = (features(9, 4, 0.2), features(7, 4, 0.0));
        let value = kid(&x, &y, 50, 3).unwrap();
        assert!((value.value.unwrap() - plain(&x, &y, &[1.0; 9])).abs() < 1e-12);
        let mut scores: Vec<f64> = draws(9, 50, 3).map(|weights| plain(&x, &y, &weights)).collect();
        let expected = Interval::of(&mut scores).unwrap();
        assert!(
            (value.low.unwrap() - expected.low).abs() < 1e-12 && (value.high.unwrap() - expected.high).abs() < 1e-12
        );
        assert_eq!(kid(&x, &y, 0, 3).unwrap(), Value { value: value.value, low: None, high: None });
    }

    /// What a picture moves is what its weight moves.
    #[test]
    fn pictures_move_kid_as_their_weights_do() {
        seed(9);
        let (x, y) = (features(12, 4, 0.3), features(9, 4, 0.0));
        let moves = moves(&x, &y).unwrap();
        let mean = moves.iter().sum::<f64>() / 12.0;
        for i in 0..12 {
            let at = |h: f64| {
                let mut weights = vec![1.0 - h / 11.0; 12];
                weights[i] = 1.0 + h;
                plain(&x, &y, &weights)
            };
            let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
            // One more picture like this one, and less of each other: the mean of all is where nothing moves.
            let expected = (moves[i] - mean) / 11.0;
            assert!((slope - expected).abs() < 1e-6 * expected.abs().max(0.01), "{slope} {expected}");
        }
    }

    /// More pictures than fit a block come to the same.
    #[test]
    fn blocks_do_not_show() {
        seed(6);
        let (x, y) = (features(BLOCK + 37, 3, 0.1), features(20, 3, 0.0));
        let whole = kernel(&x, &x);
        let expected = whole.sum(Kind::Double).double_value(&[]) - whole.trace().double_value(&[]);
        let ones = Tensor::ones([1, BLOCK + 37], (Kind::Double, Device::Cpu));
        let ours = weighted_pairs(&x, &ones).double_value(&[0]);
        assert!((ours / expected - 1.0).abs() < 1e-12);
        assert_eq!(mean_kernel(&x, &y).size(), [BLOCK + 37]);
    }

    /// Two samples of one distribution are nothing apart on average, however small they are, and intervals hold that.
    #[test]
    fn samples_of_one_distribution_are_not_told_apart() {
        seed(7);
        let values: Vec<Value> =
            (0..60).map(|_| kid(&features(12, 6, 0.0), &features(12, 6, 0.0), 0, 0).unwrap()).collect();
        let mean = values.iter().filter_map(|value| value.value).sum::<f64>() / 60.0;
        assert!(mean.abs() < 0.05, "{mean}");
        assert!(values.iter().any(|value| value.value < Some(0.0)), "some are negative");
        let apart = kid(&features(40, 6, 1.0), &features(40, 6, 0.0), 200, 0).unwrap();
        assert!(apart.low.unwrap() > 0.0 && apart.low < apart.value && apart.value < apart.high, "{apart:?}");
    }

    #[test]
    fn nothing_is_made_of_one_picture_or_of_nan() {
        assert!(kid(&features(1, 4, 0.0), &features(3, 4, 0.0), 0, 0).is_err());
        assert!(kid(&features(3, 4, 0.0), &features(3, 5, 0.0), 0, 0).is_err());
        assert!(kid(&(features(3, 4, 0.0) * f64::NAN), &features(3, 4, 0.0), 0, 0).is_err());
    }
}
