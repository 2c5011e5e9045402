//! Metrics in the features of networks that a run asks only where such a metric is named: what each compares, and the
//! values that are cosines.

use std::fmt::Debug;

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use super::networks::Network;
use super::{PictureMetric, PictureSet};
use crate::metrics::stats::bootstrap;
use crate::metrics::{About, Metric, Show, Value};

/// What a metric compares the pictures of a strategy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Beside {
    /// Each with its photo.
    Photos,
    /// Each with the prompt that it was drawn from.
    Prompts,
    /// All with the style pictures.
    StylePictures,
}

/// The network of a metric, and what is compared in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Embedding {
    pub network: Network,
    pub beside: Beside,
}

/// The features of a strategy's pictures, and of what they are compared with.
#[derive(Debug)]
pub struct Embedded {
    /// [n, features]
    pub pictures: Tensor,
    /// Of photos and prompts [n, features], a row a picture; of style pictures [m, features].
    pub beside: Tensor,
}

/// The mean of a cosine that each picture has.
#[derive(Debug)]
pub struct Cosine {
    about: About,
    embedding: Embedding,
}

static COMMON: About = About {
    name: "",
    label: "",
    axis: "",
    help: "",
    compares: "",
    higher_is_better: true,
    needs: &[],
    item: None,
    interval: true,
    show: Show::Compared,
    by_default: false,
    width: 10,
};

/// How well a picture fits its prompt in CLIP (CLIP-T).
pub static CLIP_TEXT: Cosine = Cosine {
    about: About {
        name: "clip_text",
        label: "CLIP text",
        axis: "CLIP similarity to the prompt",
        help: "cosine in CLIP between picture and prompt; higher is better. Below it the 95 % interval",
        compares: "each picture with its prompt",
        needs: &[Network::Clip.model()],
        item: Some(
            "Cosine in CLIP between each picture and the prompt that it was drawn from; higher follows it more.",
        ),
        ..COMMON
    },
    embedding: Embedding { network: Network::Clip, beside: Beside::Prompts },
};

/// How near a picture is to its photo in CLIP (CLIP-I).
pub static CLIP_IMAGE: Cosine = Cosine {
    about: About {
        name: "clip_image",
        label: "CLIP image",
        axis: "CLIP similarity to the photo",
        help: "cosine in CLIP between picture and photo; higher keeps more of it. Below it the 95 % interval",
        compares: "each picture with its photo",
        needs: &[Network::Clip.model()],
        item: Some("Cosine in CLIP between each picture and its photo; higher keeps more of it."),
        ..COMMON
    },
    embedding: Embedding { network: Network::Clip, beside: Beside::Photos },
};

/// How much of the style a single picture has reached.
pub static CSD: Cosine = Cosine {
    about: About {
        name: "csd",
        label: "CSD",
        axis: "CSD style similarity to the style pictures",
        help: "mean cosine of style descriptors to the style pictures; higher is more of the style. Below it the 95 % interval",
        compares: "each picture with style pictures",
        needs: &[Network::Csd.model()],
        item: Some(
            "Mean cosine between each picture's style and those of the style pictures; higher is more of the style.",
        ),
        ..COMMON
    },
    embedding: Embedding { network: Network::Csd, beside: Beside::StylePictures },
};

/// How much of what the photo shows is kept.
pub static DINO: Cosine = Cosine {
    about: About {
        name: "dino",
        label: "DINO",
        axis: "DINOv2 similarity to the photo",
        help: "cosine in DINOv2 between picture and photo; higher keeps more of what it shows. Below it the 95 % interval",
        compares: "each picture with its photo",
        needs: &[Network::Dinov2.model()],
        item: Some("Cosine in DINOv2 between each picture and its photo; higher keeps more of what it shows."),
        ..COMMON
    },
    embedding: Embedding { network: Network::Dinov2, beside: Beside::Photos },
};

impl Metric for Cosine {
    fn about(&self) -> &About {
        &self.about
    }

    fn of_pictures(&self) -> Option<&dyn PictureMetric> {
        Some(self)
    }
}

impl PictureMetric for Cosine {
    fn embedding(&self) -> Option<Embedding> {
        Some(self.embedding)
    }

    fn of_embedded(&self, embedded: &Embedded) -> Option<Result<Vec<f64>>> {
        Some(match self.embedding.beside {
            Beside::Photos | Beside::Prompts => cosines(&embedded.pictures, &embedded.beside),
            Beside::StylePictures => mean_cosines(&embedded.pictures, &embedded.beside),
        })
    }

    fn of_set(&self, pictures: &PictureSet) -> Result<Value> {
        mean_of_items(pictures, self.about.name)
    }
}

/// The mean of the single pictures' values, with its interval over the choice of pictures.
fn mean_of_items(pictures: &PictureSet, name: &str) -> Result<Value> {
    let (values, options) = (pictures.items_of(name)?, pictures.options);
    let mean = |weights: &[f64]| weights.iter().zip(values).map(|(w, v)| w * v).sum::<f64>() / values.len() as f64;
    let interval = match options.resamples {
        0 => None,
        resamples => Some(bootstrap(values.len(), resamples, options.seed, |counts| [mean(counts)])?[0]),
    };
    Ok(Value::new(mean(&vec![1.0; values.len()]), interval))
}

/// The rows in float64, each of length 1.
fn unit(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Double);
    &x / x.norm_scalaropt_dim(2.0, [-1i64], true).clamp_min(1e-12)
}

/// The cosine of each row with the row of the same number.
pub fn cosines(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let (x, y) = (a.size(), b.size());
    ensure!(x == y, "features of {x:?} and {y:?} are no pairs");
    let products = (unit(a) * unit(b)).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    Ok(Vec::try_from(products)?)
}

/// The mean cosine of each row of `a` [n, features] with all rows of `b` [m, features].
fn mean_cosines(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let (x, y) = (a.size(), b.size());
    ensure!(x[1..] == y[1..] && y[0] > 0, "features of {x:?} and {y:?} cannot be compared");
    // The mean of the products is the product with the mean.
    let mean = unit(b).mean_dim([0i64].as_slice(), false, Kind::Double);
    Ok(Vec::try_from(unit(a).mv(&mean))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_are_those_of_the_definition() {
        let a = Tensor::from_slice(&[3.0f32, 4.0, 0.0, -2.0]).view([2, 2]);
        let b = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 5.0]).view([2, 2]);
        let near = |ours: Vec<f64>, expected: [f64; 2]| {
            assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{ours:?} {expected:?}");
        };
        near(cosines(&a, &b).unwrap(), [0.6, -1.0]);
        near(mean_cosines(&a, &b).unwrap(), [0.7, -0.5]);
        assert!(cosines(&a, &b.narrow(0, 0, 1)).is_err());
        assert!(mean_cosines(&a, &b.narrow(1, 0, 1)).is_err());
    }
}
