//! FID: the Fréchet distance between the features of pictures and of style pictures (Heusel et al. 2017), here in
//! art-Inception; of two folders also in the network that FID is published in. The computation is in [`super::frechet`].

use anyhow::Result;

use super::frechet::{self, Gaussian};
use super::{BetweenSets, INCEPTIONS, PictureMetric, PictureSet};
use crate::metrics::{About, Metric, Show, Value};

/// The metric's name.
pub const NAME: &str = "fid";

/// FID of the pictures of a strategy, or of two folders.
#[derive(Debug)]
pub struct Fid;

pub static ABOUT: About = About {
    name: NAME,
    label: "FID",
    axis: "FID (distance from the style pictures)",
    help: "distance from the style pictures; lower is better",
    compares: "pictures with style pictures",
    higher_is_better: false,
    needs: &["art-inception"],
    item: None,
    interval: true,
    show: Show::Table,
    by_default: true,
    width: 12,
};

impl Metric for Fid {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn of_pictures(&self) -> Option<&dyn PictureMetric> {
        Some(self)
    }
}

impl PictureMetric for Fid {
    fn of_set(&self, pictures: &PictureSet) -> Result<Value> {
        let scores = pictures.artfid()?;
        Ok(Value::new(scores.fid, scores.intervals.map(|intervals| intervals.fid)))
    }

    fn moves(&self, pictures: &PictureSet) -> Result<Vec<f64>> {
        Ok(pictures.artfid()?.fid_moves().collect())
    }

    fn of_features(&self) -> Option<BetweenSets> {
        Some(BetweenSets {
            networks: INCEPTIONS,
            help: "Fréchet distance between two folders of pictures",
            least: [2, 2],
            compare: |a, b, _| Ok(Value::new(frechet::distance(&Gaussian::fit(a)?, &Gaussian::fit(b)?)?, None)),
        })
    }
}
