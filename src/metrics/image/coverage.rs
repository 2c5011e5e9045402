//! Improved precision and recall (Kynkäänniemi et al. 2019, <https://arxiv.org/abs/1904.06991>), between the features of
//! pictures and of style pictures, here in art-Inception.
//!
//! Around each feature of a set lies a ball that reaches its third nearest neighbour in the set; the balls together are
//! where pictures of that kind lie. Precision is the share of the pictures that lie in a ball of the style pictures,
//! recall the share of the style pictures that lie in a ball of the pictures.
//!
//! Source: <https://github.com/clovaai/generative-evaluation-prdc> (`prdc/prdc.py`).

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::{BetweenSets, INCEPTIONS, PictureMetric, PictureSet};
use crate::metrics::image::artfid::Options;
use crate::metrics::stats::bootstrap;
use crate::metrics::{About, Metric, Show, Value};

/// A ball reaches this many neighbours.
const NEIGHBOURS: i64 = 3;

/// Which of the two.
#[derive(Debug, PartialEq)]
enum Side {
    Precision,
    Recall,
}

/// Precision or recall of the pictures of a strategy, or of two folders.
#[derive(Debug)]
pub struct Coverage {
    side: Side,
    about: About,
}

static COMMON: About = About {
    name: "",
    label: "",
    axis: "",
    help: "",
    compares: "pictures with style pictures",
    higher_is_better: true,
    needs: &["art-inception"],
    item: None,
    interval: false,
    show: Show::Table,
    by_default: false,
    width: 10,
};

/// The share of pictures that look like style pictures.
pub static PRECISION: Coverage = Coverage {
    side: Side::Precision,
    about: About {
        name: "precision",
        label: "precision",
        axis: "precision (share of pictures among the style pictures)",
        help: "share of the pictures that lie where style pictures lie; higher is better",
        interval: true,
        ..COMMON
    },
};

/// The share of style pictures that the pictures come near to.
///
/// It has no interval: drawn twice, a picture is its own neighbour, and every resample would reach less far.
pub static RECALL: Coverage = Coverage {
    side: Side::Recall,
    about: About {
        name: "recall",
        label: "recall",
        axis: "recall (share of style pictures that are reached)",
        help: "share of the style pictures that lie where the pictures lie; higher is more varied",
        ..COMMON
    },
};

impl Metric for Coverage {
    fn about(&self) -> &About {
        &self.about
    }

    fn of_pictures(&self) -> Option<&dyn PictureMetric> {
        Some(self)
    }
}

impl PictureMetric for Coverage {
    fn of_set(&self, pictures: &PictureSet) -> Result<Value> {
        self.side.score(&pictures.drawn, &pictures.style, pictures.options)
    }

    fn of_features(&self) -> Option<BetweenSets> {
        Some(match self.side {
            Side::Precision => BetweenSets {
                networks: INCEPTIONS,
                help: "Share of the pictures of the first folder that lie where those of the second lie (precision)",
                compare: |a, b, options| Side::Precision.score(a, b, options),
            },
            Side::Recall => BetweenSets {
                networks: INCEPTIONS,
                help: "Share of the pictures of the second folder that lie where those of the first lie (recall)",
                compare: |a, b, options| Side::Recall.score(a, b, options),
            },
        })
    }
}

impl Side {
    fn score(&self, features: &Tensor, reference: &Tensor, options: &Options) -> Result<Value> {
        match self {
            Self::Precision => {
                let inside = within(features, reference)?;
                let n = inside.len();
                let share = |counts: &[f64]| [counts.iter().zip(&inside).map(|(count, is)| count * is).sum::<f64>()];
                let interval = if options.resamples > 0 {
                    let [interval] = bootstrap(n, options.resamples, options.seed, |counts| {
                        share(counts).map(|sum| sum / n as f64)
                    })?;
                    Some(interval)
                } else {
                    None
                };
                Ok(Value::new(mean(&inside), interval))
            }
            Self::Recall => Ok(Value::new(mean(&within(reference, features)?), None)),
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// For each feature [n, features] 1 where it lies within a ball of `support` [m, features], else 0.
///
/// # Errors
/// With too few features for a ball, and with features that are no numbers.
fn within(features: &Tensor, support: &Tensor) -> Result<Vec<f64>> {
    let (x, y) = (rows(features)?, rows(support)?);
    ensure!(x.size()[1] == y.size()[1], "the two sets have {} and {} features", x.size()[1], y.size()[1]);
    let m = y.size()[0];
    ensure!(
        m > NEIGHBOURS,
        "precision and recall reach for the third neighbour: {m} pictures are too few, each set needs {} and more",
        NEIGHBOURS + 1
    );
    let radii: Vec<Tensor> = blocks(&y)
        // The nearest of all is the feature itself.
        .map(|block| Ok(Tensor::f_cdist(&block, &y, 2.0, EXACT)?.f_kthvalue(NEIGHBOURS + 1, 1, false)?.0))
        .collect::<Result<_>>()?;
    let radii = Tensor::cat(&radii, 0).unsqueeze(0); // [1, m]
    let inside: Vec<Tensor> = blocks(&x)
        .map(|block| Ok(Tensor::f_cdist(&block, &y, 2.0, EXACT)?.f_lt_tensor(&radii)?.f_any_dim(1, false)?))
        .collect::<Result<_>>()?;
    Ok(Vec::try_from(Tensor::cat(&inside, 0).to_kind(Kind::Double).to_device(Device::Cpu))?)
}

/// torch's way to distances without matrix products, whose rounding moves what lies on the edge of a ball.
const EXACT: Option<i64> = Some(2);

/// The features in float64, all of them numbers.
fn rows(features: &Tensor) -> Result<Tensor> {
    let size = features.size();
    ensure!(size.len() == 2 && size[0] >= 1, "features of pictures are [pictures, features], not {size:?}");
    let features = features.to_kind(Kind::Double);
    let finite = features.isfinite().all().int64_value(&[]) == 1;
    ensure!(finite, "some features are not finite numbers: are the weights damaged, or is float16 too narrow?");
    Ok(features)
}

/// Rows of the distances that are in memory at a time.
const BLOCK: i64 = 512;

fn blocks(x: &Tensor) -> impl Iterator<Item = Tensor> {
    (0..x.size()[0]).step_by(BLOCK as usize).map(|start| x.narrow(0, start, BLOCK.min(x.size()[0] - start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a line: balls of radius 3 around 0, 1, 2, 3 (and 2 around the middle ones).
    #[test]
    fn balls_reach_the_third_neighbour() {
        let line = |places: &[f64]| Tensor::from_slice(places).view([-1, 1]);
        let support = line(&[0.0, 1.0, 2.0, 3.0]);
        let inside = within(&line(&[-2.9, -3.0, 5.9, 6.0, 1.5]), &support).unwrap();
        assert_eq!(inside, [1.0, 0.0, 1.0, 0.0, 1.0]);
        let options = Options { resamples: 50, ..Options::default() };
        let near = line(&[0.5, 1.5, 2.5, 99.0]);
        let value = Side::Precision.score(&near, &support, &options).unwrap();
        assert_eq!(value.value, Some(0.75));
        assert!(value.low < value.value && value.value <= value.high, "{value:?}");
        // The one far away has a ball that holds everything.
        assert_eq!(Side::Recall.score(&near, &support, &options).unwrap(), Value::new(1.0, None));
    }

    #[test]
    fn nothing_is_made_of_three_pictures_or_of_nan() {
        let ones = |n: i64| Tensor::ones([n, 2], (Kind::Double, Device::Cpu));
        assert!(within(&ones(9), &ones(3)).unwrap_err().to_string().contains("3 pictures are too few"));
        assert!(within(&(ones(4) * f64::NAN), &ones(4)).is_err());
        assert!(within(&ones(4), &Tensor::ones([4, 3], (Kind::Double, Device::Cpu))).is_err());
        assert_eq!(within(&ones(1), &Tensor::eye(6, (Kind::Double, Device::Cpu)).narrow(1, 0, 2)).unwrap().len(), 1);
    }
}
