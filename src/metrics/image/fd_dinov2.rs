//! FD-DINOv2 (Stein et al. 2023, <https://arxiv.org/abs/2306.04675>): the Fréchet distance between the DINOv2 features of
//! pictures and of style pictures. Published values are in the features of `dinov2-large`.

use anyhow::Result;
use tch::Tensor;

use super::artfid::ScoreOptions;
use super::embedded::{Beside, Embedding};
use super::frechet::{Gaussian, distance, distance_with_influence};
use super::networks::Network;
use super::{BetweenSets, PictureMetric, PictureSet};
use crate::metrics::stats::bootstrap;
use crate::metrics::{About, Metric, Show, Value};

/// FD-DINOv2 of the pictures of a strategy, or of two folders.
#[derive(Debug)]
pub struct FdDinov2;

static ABOUT: About = About {
    name: "fd_dinov2",
    label: "FD-DINOv2",
    axis: "FD-DINOv2 (distance from the style pictures)",
    help: "Fréchet distance in DINOv2 from the style pictures; lower is better. Below it the 95 % interval",
    compares: "pictures with style pictures",
    higher_is_better: false,
    needs: &[Network::Dinov2.model()],
    item: None,
    interval: true,
    show: Show::Compared,
    by_default: false,
    width: 12,
};

impl Metric for FdDinov2 {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn of_pictures(&self) -> Option<&dyn PictureMetric> {
        Some(self)
    }
}

impl PictureMetric for FdDinov2 {
    fn embedding(&self) -> Option<Embedding> {
        Some(Embedding { network: Network::Dinov2, beside: Beside::StylePictures })
    }

    fn of_set(&self, pictures: &PictureSet) -> Result<Value> {
        let embedded = pictures.embedded(self)?;
        frechet(&embedded.pictures, &embedded.beside, pictures.options)
    }

    /// By their influence, as FID's.
    fn moves(&self, pictures: &PictureSet) -> Result<Vec<f64>> {
        let embedded = pictures.embedded(self)?;
        moves(&embedded.pictures, &embedded.beside)
    }

    fn of_features(&self) -> Option<BetweenSets> {
        Some(BetweenSets {
            networks: &[Network::Dinov2],
            help: "Fréchet distance in DINOv2 between two folders of pictures, with its interval over the first",
            least: [2, 2],
            compare: frechet,
        })
    }
}

/// The distance, with its interval over the choice of `features`, moved by each picture's influence as ArtFID's is.
fn frechet(features: &Tensor, reference: &Tensor, options: &ScoreOptions) -> Result<Value> {
    let (fixed, sampled) = (Gaussian::fit(reference)?, Gaussian::fit(features)?);
    if options.resamples == 0 {
        return Ok(Value::new(distance(&fixed, &sampled)?, None));
    }
    let (value, influence) = distance_with_influence(&fixed, &sampled)?;
    let [interval] = bootstrap(influence.len(), options.resamples, options.seed, |counts| {
        let moved: f64 = counts.iter().zip(&influence).map(|(count, influence)| (count - 1.0) * influence).sum();
        [(value + moved).max(0.0)]
    })?;
    Ok(Value::new(value, Some(interval)))
}

/// How each picture of `features` moves the distance: its influence, which is of a sum, as that of a mean.
fn moves(features: &Tensor, reference: &Tensor) -> Result<Vec<f64>> {
    let (_, influence) = distance_with_influence(&Gaussian::fit(reference)?, &Gaussian::fit(features)?)?;
    let n = influence.len() as f64;
    Ok(influence.into_iter().map(|influence| n * influence).collect())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// What scoring without each picture comes to, in a fraction of the time. The two differ by what one picture does to
    /// the others' influence, which vanishes as pictures become more.
    #[test]
    fn pictures_move_the_distance_as_their_absence_does() {
        let (n, d) = (400, 5);
        let angles = Tensor::arange((n + 90) * d, (Kind::Double, Device::Cpu)).view([n + 90, d]) * 1.3;
        let all = angles.sin() + angles.square().cos() * 1.7;
        let (x, y) = (all.narrow(0, 0, n) * 1.2 + 0.3, all.narrow(0, n, 90));
        let of = |x: &Tensor| distance(&Gaussian::fit(&y).unwrap(), &Gaussian::fit(x).unwrap()).unwrap();
        let whole = of(&x);
        let without = |at: i64| of(&Tensor::cat(&[x.narrow(0, 0, at), x.narrow(0, at + 1, n - at - 1)], 0));
        let slow: Vec<f64> = (0..n).map(|at| n as f64 * whole - (n - 1) as f64 * without(at)).collect();
        let fast = moves(&x, &y).unwrap();
        // What is added to all of them does not matter.
        let centred = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter().map(|value| value - mean).collect::<Vec<f64>>()
        };
        let (slow, fast) = (centred(&slow), centred(&fast));
        let spread = (slow.iter().map(|value| value * value).sum::<f64>() / n as f64).sqrt();
        let most = slow.iter().zip(&fast).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(most < 0.1 * spread, "{most} of {spread}");
    }
}
