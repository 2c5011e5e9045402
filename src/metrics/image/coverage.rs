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
use crate::metrics::image::artfid::ScoreOptions;
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

    fn moves(&self, pictures: &PictureSet) -> Result<Vec<f64>> {
        match self.side {
            // A mean over the pictures.
            Side::Precision => within(&pictures.drawn, &pictures.style),
            Side::Recall => recall_pseudo_values(&pictures.drawn, &pictures.style),
        }
    }

    fn of_features(&self) -> Option<BetweenSets> {
        Some(match self.side {
            Side::Precision => BetweenSets {
                networks: INCEPTIONS,
                help: "Share of the pictures of the first folder that lie where those of the second lie (precision)",
                least: [1, NEIGHBOURS as usize + 1],
                compare: |a, b, options| Side::Precision.score(a, b, options),
            },
            Side::Recall => BetweenSets {
                networks: INCEPTIONS,
                help: "Share of the pictures of the second folder that lie where those of the first lie (recall)",
                least: [NEIGHBOURS as usize + 1, 1],
                compare: |a, b, options| Side::Recall.score(a, b, options),
            },
        })
    }
}

impl Side {
    fn score(&self, features: &Tensor, reference: &Tensor, options: &ScoreOptions) -> Result<Value> {
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

/// The jackknife's pseudo-values of recall for the n pictures `features` [n, features] beside style pictures [m, features],
/// from one look at all distances: without a picture its own ball is gone, and the balls of those that it was among the
/// three nearest of reach one neighbour further.
fn recall_pseudo_values(features: &Tensor, reference: &Tensor) -> Result<Vec<f64>> {
    let (x, y) = (rows(features)?, rows(reference)?);
    let (n, m) = (x.size()[0], y.size()[0]);
    ensure!(n > NEIGHBOURS + 1, "recall without one of {n} pictures needs {} and more", NEIGHBOURS + 2);
    let (mut radii, mut neighbours, mut wider) = (Vec::new(), Vec::new(), Vec::new());
    for (at, block) in blocks(&x).enumerate() {
        let apart = Tensor::f_cdist(&block, &x, 2.0, EXACT)?;
        let own =
            Tensor::arange_start(at as i64 * BLOCK, at as i64 * BLOCK + block.size()[0], (Kind::Int64, x.device()));
        // No picture is its own neighbour.
        let apart = apart.scatter_value(1, &own.unsqueeze(1), f64::INFINITY);
        let (nearest, which) = apart.f_topk(NEIGHBOURS + 1, 1, false, true)?;
        radii.push(nearest.select(1, NEIGHBOURS - 1));
        wider.push(nearest.select(1, NEIGHBOURS));
        neighbours.push(which.narrow(1, 0, NEIGHBOURS));
    }
    let all = |parts: Vec<Tensor>| Tensor::cat(&parts, 0).to_device(Device::Cpu);
    let column = |parts| Vec::<f64>::try_from(all(parts));
    let (radii, wider, neighbours) = (column(radii)?, column(wider)?, Vec::<Vec<i64>>::try_from(all(neighbours))?);
    let mut neighbour_of: Vec<Vec<usize>> = vec![Vec::new(); n as usize];
    for (picture, nearest) in neighbours.iter().enumerate() {
        nearest.iter().for_each(|near| neighbour_of[*near as usize].push(picture));
    }
    let mut reached = vec![0.0; n as usize]; // style pictures in reach without this picture
    let mut within_all = 0.0;
    for block in blocks(&y) {
        for apart in Vec::<Vec<f64>>::try_from(Tensor::f_cdist(&block, &x, 2.0, EXACT)?.to_device(Device::Cpu))? {
            let balls: Vec<bool> = apart.iter().zip(&radii).map(|(apart, radius)| apart < radius).collect();
            let around = balls.iter().filter(|ball| **ball).count();
            within_all += f64::from(u8::from(around > 0));
            for (picture, reached) in reached.iter_mut().enumerate() {
                let by_others = around > usize::from(balls[picture]);
                let by_wider = || neighbour_of[picture].iter().any(|other| apart[*other] < wider[*other]);
                *reached += f64::from(u8::from(by_others || by_wider()));
            }
        }
    }
    let (n, m) = (n as f64, m as f64);
    Ok(reached.into_iter().map(|reached| (n * within_all - (n - 1.0) * reached) / m).collect())
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
        let options = ScoreOptions { resamples: 50, ..ScoreOptions::default() };
        let near = line(&[0.5, 1.5, 2.5, 99.0]);
        let value = Side::Precision.score(&near, &support, &options).unwrap();
        assert_eq!(value.value, Some(0.75));
        assert!(value.low < value.value && value.value <= value.high, "{value:?}");
        // The one far away has a ball that holds everything.
        assert_eq!(Side::Recall.score(&near, &support, &options).unwrap(), Value::new(1.0, None));
    }

    #[test]
    fn pseudo_values_are_those_of_scoring_without_each_picture() {
        let angles = Tensor::arange(60 * 2, (Kind::Double, Device::Cpu)).view([60, 2]) * 1.3;
        let all = angles.sin() + angles.square().cos();
        // Two pictures that are alike are each other's nearest.
        let (x, y) = (Tensor::cat(&[all.narrow(0, 0, 24), all.narrow(0, 3, 1)], 0), all.narrow(0, 24, 36) * 1.4);
        let recall = |x: &Tensor| mean(&within(&y, x).unwrap());
        let whole = recall(&x);
        assert!(whole > 0.2 && whole < 0.95, "{whole}");
        let ours = recall_pseudo_values(&x, &y).unwrap();
        assert!(ours.iter().any(|value| (value - whole).abs() > 0.1), "{ours:?}");
        for (at, value) in ours.iter().enumerate() {
            let others: Vec<i64> = (0..25).filter(|other| *other != at as i64).collect();
            let expected = 25.0 * whole - 24.0 * recall(&x.index_select(0, &Tensor::from_slice(&others)));
            assert!((value - expected).abs() < 1e-9, "{at}: {value} {expected}");
        }
        assert!(recall_pseudo_values(&x.narrow(0, 0, 4), &y).is_err());
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
