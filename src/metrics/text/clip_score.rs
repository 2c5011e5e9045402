//! CLIPScore and RefCLIPScore (Hessel et al. 2021, <https://arxiv.org/abs/2104.08718>): how well a caption fits its picture
//! in CLIP, without and with references.
//!
//! Source: <https://github.com/jmhessel/clipscore> (`clipscore.py`). Texts stand after "A photo depicts " and are cut at the
//! encoder's 77 tokens. A sum of two scores that are 0 has no harmonic mean; it counts as 0.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use tch::Tensor;

use super::{CAPTIONS, CaptionMetric, Measured, Prepared, Profile};
use crate::metrics::image::Embedder;
use crate::metrics::image::embedded::cosines;
use crate::metrics::image::networks::Network;
use crate::metrics::{About, Metric, Show};

/// What stands before every text.
const PREFIX: &str = "A photo depicts ";
/// What makes the values readable.
const WEIGHT: f64 = 2.5;

/// A score that needs the pictures.
#[derive(Debug)]
pub struct ClipScore {
    about: About,
    of: fn(&ClipScores) -> Option<f64>,
}

static COMMON: About = About {
    interval: true,
    show: Show::Compared,
    by_default: false,
    needs: &[Network::Clip.model()],
    width: 10,
    ..CAPTIONS
};

/// Caption and picture.
pub static CLIP_SCORE: ClipScore = ClipScore {
    about: About {
        name: "clip_score",
        label: "CLIPScore",
        help: "2.5 · the cosine in CLIP between caption and picture, no less than 0",
        compares: "captions with pictures",
        item: Some("CLIPScore, 0 to 2.5"),
        ..COMMON
    },
    of: |scores| Some(scores.clip_score),
};

/// Caption, picture and references.
pub static REF_CLIP_SCORE: ClipScore = ClipScore {
    about: About {
        name: "ref_clip_score",
        label: "RefCLIPScore",
        help: "harmonic mean of CLIPScore and the cosine in CLIP to the nearest reference",
        compares: "captions with pictures and references",
        item: Some("RefCLIPScore"),
        width: 13,
        ..COMMON
    },
    of: |scores| scores.ref_clip_score,
};

impl Metric for ClipScore {
    fn about(&self) -> &About {
        &self.about
    }

    fn of_captions(&self) -> Option<&dyn CaptionMetric> {
        Some(self)
    }
}

impl CaptionMetric for ClipScore {
    fn profile(&self) -> Profile {
        Profile::Pictures
    }

    fn needs_references(&self) -> bool {
        self.about.name != CLIP_SCORE.about.name
    }

    fn measure(&self, texts: &Prepared) -> Measured {
        // Who asks for it has measured the pictures; what is missing shows as no number.
        let value = |scores: &Option<ClipScores>| scores.as_ref().and_then(self.of).unwrap_or(f64::NAN);
        Measured::mean(self.about.name, texts.clip().iter().map(value).collect())
    }
}

/// The scores of one caption.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipScores {
    pub clip_score: f64,
    /// None without references.
    pub ref_clip_score: Option<f64>,
}

/// A caption, the row of its picture in the features, and its references.
#[derive(Debug)]
pub struct Said<'a> {
    pub caption: &'a str,
    pub picture: usize,
    pub references: &'a [String],
}

/// Scores captions of pictures with features [pictures, width]; each distinct text is encoded once.
pub fn score(net: &dyn Embedder, pictures: &Tensor, said: &[Said]) -> Result<Vec<ClipScores>> {
    if said.is_empty() {
        return Ok(Vec::new());
    }
    let features = net.texts(&texts(said))?;
    let width = features.first().map_or(0, Vec::len) as i64;
    score_of(&Tensor::from_slice(&features.concat()).view([-1, width]), pictures, said)
}

/// Every text once, in an order of its own.
fn distinct<'a>(said: &[Said<'a>]) -> BTreeSet<&'a str> {
    said.iter().flat_map(|said| [said.caption].into_iter().chain(said.references.iter().map(String::as_str))).collect()
}

/// The texts that are encoded to score these captions.
pub fn texts(said: &[Said]) -> Vec<String> {
    distinct(said).into_iter().map(|text| format!("{PREFIX}{text}")).collect()
}

/// Scores captions with features [pictures, width] of pictures and `features` [texts, width] of [`texts`].
pub fn score_of(features: &Tensor, pictures: &Tensor, said: &[Said]) -> Result<Vec<ClipScores>> {
    let places: BTreeMap<&str, i64> = distinct(said).into_iter().zip(0..).collect();
    ensure!(pictures.size()[1] == features.size()[1], "pictures and texts are not of one network");
    let rows = |places: Vec<i64>| features.index_select(0, &Tensor::from_slice(&places));
    let place = |text: &str| places.get(text).copied().context("a text that was not encoded");
    let spoken = said.iter().map(|said| place(said.caption)).collect::<Result<Vec<_>>>()?;
    let seen: Vec<i64> = said.iter().map(|said| said.picture as i64).collect();
    let seen = pictures.index_select(0, &Tensor::from_slice(&seen));
    let near = cosines(&seen, &rows(spoken.clone()))?;
    let score = |((said, near), spoken): ((&Said, f64), i64)| {
        let clip_score = WEIGHT * near.max(0.0);
        if said.references.is_empty() {
            return Ok(ClipScores { clip_score, ref_clip_score: None });
        }
        let references = said.references.iter().map(|text| place(text)).collect::<Result<Vec<_>>>()?;
        let count = references.len();
        let nearest = cosines(&rows(references), &rows(vec![spoken; count]))?.into_iter().fold(0.0, f64::max);
        let sum = clip_score + nearest;
        let ref_clip_score = Some(if sum > 0.0 { 2.0 * clip_score * nearest / sum } else { 0.0 });
        Ok(ClipScores { clip_score, ref_clip_score })
    };
    said.iter().zip(near).zip(spoken).map(score).collect()
}
