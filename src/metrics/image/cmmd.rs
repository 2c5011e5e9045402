//! CMMD (Jayasumana et al. 2024, <https://arxiv.org/abs/2401.09603>): the kernel distance between the CLIP features of
//! pictures and of style pictures. No normal distribution is assumed, and few pictures are enough.
//!
//! Source: <https://github.com/google-research/google-research/tree/master/cmmd> (`distance.py`): a Gaussian kernel of
//! width 10, every pair counted, also of a picture with itself, times 1000.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::artfid::ScoreOptions;
use super::embedded::{Beside, Embedding};
use super::networks::Network;
use super::{BetweenSets, PictureMetric, PictureSet};
use crate::metrics::stats::bootstrap;
use crate::metrics::{About, Metric, Show, Value};

/// Width of the kernel.
const SIGMA: f64 = 10.0;
/// What makes the values readable.
const SCALE: f64 = 1000.0;

/// CMMD of the pictures of a strategy, or of two folders.
#[derive(Debug)]
pub struct Cmmd;

static ABOUT: About = About {
    name: "cmmd",
    label: "CMMD",
    axis: "CMMD (distance from the style pictures in CLIP)",
    help: "kernel distance in CLIP from the style pictures; lower is better. Below it the 95 % interval",
    compares: "pictures with style pictures",
    higher_is_better: false,
    needs: &[Network::ClipLarge.model()],
    item: None,
    interval: true,
    show: Show::Compared,
    by_default: false,
    width: 10,
};

impl Metric for Cmmd {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn of_pictures(&self) -> Option<&dyn PictureMetric> {
        Some(self)
    }
}

impl PictureMetric for Cmmd {
    fn embedding(&self) -> Option<Embedding> {
        Some(Embedding { network: Network::ClipLarge, beside: Beside::StylePictures })
    }

    fn of_set(&self, pictures: &PictureSet) -> Result<Value> {
        let embedded = pictures.embedded(self)?;
        cmmd(&embedded.pictures, &embedded.beside, pictures.options)
    }

    fn moves(&self, pictures: &PictureSet) -> Result<Vec<f64>> {
        let embedded = pictures.embedded(self)?;
        pseudo_values(&embedded.pictures, &embedded.beside)
    }

    fn of_features(&self) -> Option<BetweenSets> {
        Some(BetweenSets {
            networks: &[Network::ClipLarge],
            help: "Kernel distance in CLIP (CMMD) between two folders of pictures, with its interval over the first",
            least: [2, 2],
            compare: cmmd,
        })
    }
}

/// CMMD of features of unit length, [n, features] and [m, features], with its interval over the choice of the n.
///
/// As with FID the interval comes from each picture's influence: pictures that are drawn twice lift every resample of
/// an estimate that counts a picture with itself.
fn cmmd(features: &Tensor, reference: &Tensor, options: &ScoreOptions) -> Result<Value> {
    let (x, y) = (rows(features)?, rows(reference)?);
    ensure!(x.size()[1] == y.size()[1], "the two sets have {} and {} features", x.size()[1], y.size()[1]);
    let mean = |means: &Tensor| means.mean(Kind::Double).double_value(&[]);
    let (among, across) = (mean_kernel(&x, &x), mean_kernel(&x, &y)); // [n] each
    let value = SCALE * (mean(&among) + mean(&mean_kernel(&y, &y)) - 2.0 * mean(&across));
    let n = x.size()[0] as usize;
    let influence = (among - across) * (2.0 * SCALE / n as f64);
    let influence = Vec::<f64>::try_from(influence.to_device(Device::Cpu))?;
    let moved = |counts: &[f64]| {
        let moved: f64 = counts.iter().zip(&influence).map(|(count, influence)| (count - 1.0) * influence).sum();
        [(value + moved).max(0.0)]
    };
    let interval = match options.resamples {
        0 => None,
        resamples => Some(bootstrap(n, resamples, options.seed, moved)?[0]),
    };
    Ok(Value::new(value, interval))
}

/// The jackknife's pseudo-values of the n pictures, all from one set of kernel sums: leaving a picture out takes its row and
/// its column from them.
fn pseudo_values(features: &Tensor, reference: &Tensor) -> Result<Vec<f64>> {
    let (x, y) = (rows(features)?, rows(reference)?);
    ensure!(x.size()[1] == y.size()[1], "the two sets have {} and {} features", x.size()[1], y.size()[1]);
    let n = x.size()[0] as f64;
    ensure!(n > 2.0, "CMMD without one of 2 pictures needs more of them");
    let (among, across) = (mean_kernel(&x, &x) * n, mean_kernel(&x, &y)); // sums and means: [n] each
    let (all, total) = (among.sum(Kind::Double).double_value(&[]), across.sum(Kind::Double).double_value(&[]));
    // A picture's kernel with itself, 1, is in its row and its column.
    let others_among = (among * -2.0 + (all + 1.0)) / (n - 1.0).powi(2);
    let others_across = (total - across) / (n - 1.0);
    let whole = all / n.powi(2) - 2.0 * total / n;
    let values = ((others_across * 2.0 - others_among) * (n - 1.0)
        + n * whole
        + mean_kernel(&y, &y).mean(Kind::Double).double_value(&[]))
        * SCALE;
    Ok(Vec::try_from(values.to_device(Device::Cpu))?)
}

/// The features in float64, at least two and all of them numbers.
fn rows(features: &Tensor) -> Result<Tensor> {
    let size = features.size();
    ensure!(size.len() == 2 && size[0] >= 2, "CMMD needs at least 2 pictures of each set, features are {size:?}");
    let features = features.to_kind(Kind::Double);
    let finite = features.isfinite().all().int64_value(&[]) == 1;
    ensure!(finite, "some features are not finite numbers: are the weights damaged, or is float16 too narrow?");
    Ok(features)
}

/// Rows of the kernel that are in memory at a time.
const BLOCK: i64 = 512;

/// The mean of exp(-|x - y|² / 2σ²) of each row of `x` with those of `y`: [rows of x].
fn mean_kernel(x: &Tensor, y: &Tensor) -> Tensor {
    let squares = |x: &Tensor| x.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    let of_y = squares(y);
    let block = |start: i64| {
        let own = x.narrow(0, start, BLOCK.min(x.size()[0] - start));
        let distances = squares(&own).unsqueeze(1) + &of_y - own.matmul(&y.tr()) * 2.0;
        (distances.clamp_min(0.0) / (-2.0 * SIGMA * SIGMA)).exp().mean_dim([1i64].as_slice(), false, Kind::Double)
    };
    Tensor::cat(&(0..x.size()[0]).step_by(BLOCK as usize).map(block).collect::<Vec<_>>(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(n: i64, d: i64, shift: f64) -> Tensor {
        let angles = Tensor::arange(n * d, (Kind::Double, Device::Cpu)).view([n, d]) * 1.3;
        let x = (angles.sin() + angles.square().cos() + shift) * 4.0;
        x.shallow_clone()
    }

    fn plain(x: &Tensor, y: &Tensor) -> f64 {
        let mean = |a: &Tensor, b: &Tensor| {
            let apart =
                (a.unsqueeze(1) - b.unsqueeze(0)).square().sum_dim_intlist([2i64].as_slice(), false, Kind::Double);
            (apart / -200.0).exp().mean(Kind::Double).double_value(&[])
        };
        1000.0 * (mean(x, x) + mean(y, y) - 2.0 * mean(x, y))
    }

    #[test]
    fn value_and_influence_are_those_of_the_definition() {
        let (x, y) = (features(9, 4, 0.2), features(7, 4, 0.0));
        let none = ScoreOptions { resamples: 0, ..ScoreOptions::default() };
        let value = cmmd(&x, &y, &none).unwrap();
        assert!((value.value.unwrap() / plain(&x, &y) - 1.0).abs() < 1e-9);
        assert_eq!(value.low, None);
        let value = cmmd(&x, &y, &ScoreOptions::default()).unwrap();
        assert!(value.low < value.value && value.value < value.high, "{value:?}");
        // More pictures than fit a block.
        let (many, few) = (features(BLOCK + 9, 3, 0.0), features(5, 3, 0.3));
        assert!((cmmd(&many, &few, &none).unwrap().value.unwrap() / plain(&many, &few) - 1.0).abs() < 1e-9);
        assert!(cmmd(&x, &x, &none).unwrap().value.unwrap().abs() < 1e-9);
    }

    #[test]
    fn pseudo_values_are_those_of_scoring_without_each_picture() {
        let (x, y) = (features(11, 4, 0.2), features(7, 4, 0.0));
        let ours = pseudo_values(&x, &y).unwrap();
        let whole = plain(&x, &y);
        for (at, value) in ours.iter().enumerate() {
            let others: Vec<i64> = (0..11).filter(|other| *other != at as i64).collect();
            let expected = 11.0 * whole - 10.0 * plain(&x.index_select(0, &Tensor::from_slice(&others)), &y);
            assert!((value - expected).abs() < 1e-9 * expected.abs().max(1.0), "{value} {expected}");
        }
        assert!(pseudo_values(&features(2, 4, 0.2), &y).is_err());
    }

    #[test]
    fn nothing_is_made_of_one_picture_or_of_nan() {
        let none = ScoreOptions { resamples: 0, ..ScoreOptions::default() };
        assert!(cmmd(&features(1, 4, 0.0), &features(3, 4, 0.0), &none).is_err());
        assert!(cmmd(&features(3, 4, 0.0), &features(3, 5, 0.0), &none).is_err());
        assert!(cmmd(&(features(3, 4, 0.0) * f64::NAN), &features(3, 4, 0.0), &none).is_err());
    }
}
