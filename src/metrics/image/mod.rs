//! Metrics of pictures: a file each, and how pictures get to their networks.

pub mod artfid;
pub mod cmmd;
pub mod coverage;
pub mod embedded;
pub mod fd_dinov2;
pub mod features;
pub mod fid;
pub mod frechet;
pub mod kid;
pub mod lpips;
pub mod networks;
pub mod paired;
pub mod photo;
pub mod pictures;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use ::image::RgbImage;
use anyhow::{Context, Result};
use tch::Tensor;

use self::artfid::{ScoreOptions, Scores};
use self::embedded::{Beside, Embedded, Embedding};
use self::networks::Network;
use super::{Metric, Value};

/// A metric of the pictures of a strategy.
pub trait PictureMetric: Metric {
    /// The values of single pictures beside their photos; None where it scores sets only. All pictures have one size.
    fn of_items(
        &self,
        _judge: &dyn ImageScorer,
        _photos: &[RgbImage],
        _pictures: &[RgbImage],
    ) -> Option<Result<Vec<f64>>> {
        None
    }

    /// The network, other than art-Inception and LPIPS, whose features it compares: only where it is asked for are they
    /// computed.
    fn embedding(&self) -> Option<Embedding> {
        None
    }

    /// The values of single pictures, by the features of [`Self::embedding`]; None where it scores sets only.
    fn of_embedded(&self, _embedded: &Embedded) -> Option<Result<Vec<f64>>> {
        None
    }

    /// The score of all pictures of a strategy, at least two, beside at least two style pictures.
    fn of_set(&self, pictures: &PictureSet) -> Result<Value>;

    /// How single pictures move the score of the set: a value for each, whose mean changes as the score does when other
    /// pictures of the same kind are drawn (see [`crate::metrics::stats::Moving`]). Of a mean these are the values of the
    /// single pictures.
    ///
    /// What is no mean, and says nothing better, is scored as often as there are pictures, each time without one of
    /// them (the jackknife's pseudo-values).
    fn moves(&self, pictures: &PictureSet) -> Result<Vec<f64>> {
        if self.about().item.is_some() {
            return Ok(pictures.items_of(self.about().name)?.to_vec());
        }
        pseudo_values(self.of_set(pictures)?, pictures, |others| self.of_set(others))
    }

    /// How it compares two sets of features, where it needs nothing else: then `toolkit evaluate` has it for two folders.
    fn of_features(&self) -> Option<BetweenSets> {
        None
    }
}

/// Both networks that are called Inception; ArtFID's comes first.
pub const INCEPTIONS: &[Network] = &[Network::ArtInception, Network::InceptionV3];

/// A metric between a set of pictures and a reference set, by their features in one network alone.
pub struct BetweenSets {
    /// The networks that it may be measured in; the first is the usual one.
    pub networks: &'static [Network],
    /// What it is, for the command line.
    pub help: &'static str,
    /// The fewest pictures of the first and of the second set.
    pub least: [usize; 2],
    /// From features [n, features] and [m, features], on one device.
    pub compare: fn(&Tensor, &Tensor, &ScoreOptions) -> Result<Value>,
}

/// The networks that measure pictures. All pictures of a call have one size.
pub trait ImageScorer {
    /// The art-Inception feature of each picture.
    fn features(&self, pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>>;

    /// LPIPS between each photo and its picture.
    fn lpips(&self, photos: &[RgbImage], pictures: &[RgbImage]) -> Result<Vec<f64>>;
}

/// A network that describes pictures, and CLIP also texts, by features: a row each, of one width.
pub trait Embedder {
    /// Pictures of any sizes.
    fn pictures(&self, pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>>;

    /// Texts; an error where the network knows pictures only.
    fn texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>>;
}

/// n·θ − (n − 1)·θ₋ᵢ of each picture, where θ₋ᵢ is the score of the others.
fn pseudo_values(
    whole: Value,
    pictures: &PictureSet,
    score: impl Fn(&PictureSet) -> Result<Value>,
) -> Result<Vec<f64>> {
    let known = |value: Value| value.value.context("the score of some of the pictures is no finite number");
    let n = pictures.drawn.size().first().copied().unwrap_or(0) as usize;
    let (whole, count) = (known(whole)?, n as f64);
    let options = ScoreOptions { resamples: 0, ..pictures.options.clone() };
    let of_one = |at: usize| {
        let others: Vec<usize> = (0..n).filter(|other| *other != at).collect();
        Ok(count * whole - (count - 1.0) * known(score(&pictures.only(&others, &options))?)?)
    };
    (0..n).map(of_one).collect()
}

/// The measured pictures of a strategy.
#[derive(Debug)]
pub struct PictureSet<'a> {
    /// Features of the style pictures in art-Inception: [m, features].
    pub style: Tensor,
    /// Features of the strategy's pictures: [n, features], on the same device.
    pub drawn: Tensor,
    /// The values of the single pictures, by metric, in the order of `drawn`.
    pub items: BTreeMap<&'static str, Vec<f64>>,
    /// What metrics with an [`Embedding`] compare.
    pub embedded: BTreeMap<Embedding, Embedded>,
    pub options: &'a ScoreOptions,
    artfid: OnceCell<Scores>,
}

impl<'a> PictureSet<'a> {
    pub fn new(
        style: Tensor,
        drawn: Tensor,
        items: BTreeMap<&'static str, Vec<f64>>,
        options: &'a ScoreOptions,
    ) -> PictureSet<'a> {
        PictureSet { style, drawn, items, embedded: BTreeMap::new(), options, artfid: OnceCell::new() }
    }

    /// The features that this metric compares.
    pub fn embedded(&self, metric: &dyn PictureMetric) -> Result<&Embedded> {
        let embedding = metric.embedding();
        let embedded = embedding.and_then(|embedding| self.embedded.get(&embedding));
        embedded.with_context(|| format!("the pictures have no features for {}", metric.about().label))
    }

    /// Some of the pictures by their places in `drawn`.
    pub fn only<'b>(&self, places: &[usize], options: &'b ScoreOptions) -> PictureSet<'b> {
        let rows: Vec<i64> = places.iter().map(|place| *place as i64).collect();
        let rows = Tensor::from_slice(&rows);
        let chosen = |all: &Tensor| all.index_select(0, &rows.to_device(all.device()));
        let of_these = |values: &Vec<f64>| places.iter().filter_map(|place| values.get(*place).copied()).collect();
        let items = self.items.iter().map(|(name, values)| (*name, of_these(values))).collect();
        let mut some = PictureSet::new(self.style.shallow_clone(), chosen(&self.drawn), items, options);
        for (embedding, all) in &self.embedded {
            let beside = match embedding.beside {
                Beside::StylePictures => all.beside.shallow_clone(),
                Beside::Photos | Beside::Prompts => chosen(&all.beside),
            };
            some.embedded.insert(*embedding, Embedded { pictures: chosen(&all.pictures), beside });
        }
        some
    }

    /// The values of the single pictures by this metric.
    pub fn items_of(&self, metric: &str) -> Result<&[f64]> {
        self.items.get(metric).map(Vec::as_slice).with_context(|| format!("the single pictures have no {metric}"))
    }

    /// ArtFID and its halves, computed once: their intervals come from the same resamples.
    pub fn artfid(&self) -> Result<&Scores> {
        if let Some(scores) = self.artfid.get() {
            return Ok(scores);
        }
        let scores = artfid::score(&self.style, &self.drawn, self.items_of(lpips::NAME)?, self.options)?;
        Ok(self.artfid.get_or_init(|| scores))
    }

    /// What the user must know before ranking by these numbers, as far as it was found out.
    pub fn warnings(&self) -> &[String] {
        self.artfid.get().map_or(&[], |scores| &scores.warnings)
    }
}
