//! FD-DINOv2 (Stein et al. 2023, <https://arxiv.org/abs/2306.04675>): the Fréchet distance between the DINOv2 features of
//! pictures and of style pictures. Published values are in the features of `dinov2-large`.

use anyhow::Result;
use tch::Tensor;

use super::artfid::Options;
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

    fn of_features(&self) -> Option<BetweenSets> {
        Some(BetweenSets {
            networks: &[Network::Dinov2],
            help: "Fréchet distance in DINOv2 between two folders of pictures, with its interval over the first",
            compare: frechet,
        })
    }
}

/// The distance, with its interval over the choice of `features`, moved by each picture's influence as ArtFID's is.
fn frechet(features: &Tensor, reference: &Tensor, options: &Options) -> Result<Value> {
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
