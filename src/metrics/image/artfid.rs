//! ArtFID = (LPIPS + 1) · (FID + 1), as <https://github.com/matthias-wright/art-fid> defines it: LPIPS
//! between content pictures and what was made of them, FID between style pictures and what was made.
//!
//! Pictures are taken at their own size, RGB in [0, 1], neither resized nor normalised.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use image::RgbImage;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::features::{FeatureNet, on_device};
use super::frechet::{self, Gaussian};
use super::lpips::LpipsNet;
use super::pictures::Batches;
use super::{ImageScorer, PictureMetric, PictureSet};
use crate::error::usage;
use crate::metrics::stats::{Drawn, Interval, RESAMPLES, bootstrap_of};
use crate::metrics::{About, Metric, Show, Value};

/// The metric's name.
pub const NAME: &str = "artfid";

/// ArtFID of the pictures of a strategy.
#[derive(Debug)]
pub struct ArtFid;

pub static ABOUT: About = About {
    name: NAME,
    label: "ArtFID",
    axis: "ArtFID = (1 + LPIPS) · (1 + FID)",
    help: "(1 + LPIPS) · (1 + FID); lower is better. Below it the 95 % interval",
    compares: "pictures with their photos and with style pictures",
    higher_is_better: false,
    needs: &["art-inception", "lpips-alex"],
    item: None,
    interval: true,
    show: Show::Headline,
    by_default: true,
    width: 12,
};

impl Metric for ArtFid {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn of_pictures(&self) -> Option<&dyn PictureMetric> {
        Some(self)
    }
}

impl PictureMetric for ArtFid {
    fn of_set(&self, pictures: &PictureSet) -> Result<Value> {
        let scores = pictures.artfid()?;
        Ok(Value::new(scores.artfid, scores.intervals.map(|intervals| intervals.artfid)))
    }

    /// By the product rule, from how each picture moves the two halves.
    fn moves(&self, pictures: &PictureSet) -> Result<Vec<f64>> {
        let scores = pictures.artfid()?;
        let lpips = pictures.items_of(super::lpips::NAME)?;
        let of_one = |(moved, lpips): (f64, &f64)| (scores.lpips + 1.0) * moved + (scores.fid + 1.0) * lpips;
        Ok(scores.fid_moves().zip(lpips).map(of_one).collect())
    }
}

/// The networks behind the two halves of ArtFID.
pub struct ArtFidNets {
    pub inception: FeatureNet,
    pub lpips: LpipsNet,
}

impl ArtFidNets {
    /// From the files of art-Inception, of LPIPS' AlexNet and of LPIPS' linear heads.
    pub fn load(inception: &Path, backbone: &Path, linear: &Path, device: Device, kind: Kind) -> Result<Self> {
        Ok(Self {
            inception: FeatureNet::load(inception, device, kind)?,
            lpips: LpipsNet::load(backbone, linear, device, kind)?,
        })
    }

    /// At the published sizes with random weights.
    pub fn random(device: Device, kind: Kind) -> Result<Self> {
        Ok(Self { inception: FeatureNet::random(device, kind)?, lpips: LpipsNet::random(device, kind)? })
    }

    /// Features of pictures of one size: float32 [pictures, features] on the CPU.
    pub fn features(&self, pictures: &[RgbImage], batch: usize) -> Result<Tensor> {
        self.inception.features(pictures, batch)
    }

    /// LPIPS of each pair of pictures.
    pub fn lpips(&self, content: &[RgbImage], stylized: &[RgbImage], batch: usize) -> Result<Vec<f64>> {
        self.lpips.distances(content, stylized, batch)
    }

    /// Features of the stylized pictures and LPIPS of the pairs, each file decoded once, while the
    /// device works: float32 [pairs, features] and `[pairs]` on the device, for which this does not wait.
    pub fn measure_files(&self, pairs: Batches) -> Result<(Tensor, Tensor)> {
        let (mut features, mut distances) = (Vec::new(), Vec::new());
        for batch in pairs {
            let batch = batch?;
            distances.push(self.lpips.of_batch(&batch)?);
            features.push(batch.cut(&self.inception.of_pixels(&batch.set(1))?));
        }
        Ok((on_device(&features)?, on_device(&distances)?))
    }
}

impl ImageScorer for ArtFidNets {
    fn features(&self, pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        let features = ArtFidNets::features(self, pictures, pictures.len())?;
        Ok(Vec::try_from(&features)?)
    }

    fn lpips(&self, photos: &[RgbImage], pictures: &[RgbImage]) -> Result<Vec<f64>> {
        ArtFidNets::lpips(self, photos, pictures, pictures.len())
    }
}

/// How FID is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// FID of the pictures there are.
    ArtFid,
    /// FID extrapolated to sets without end, from samples of several sizes. As in art-fid the
    /// smallest sample is of 5000 pictures; with no more than that, every sample is the whole set
    /// and the value is plain FID.
    ArtFidInf,
}

/// What [`score`] may be told.
#[derive(Debug, Clone)]
pub struct ScoreOptions {
    pub mode: Mode,
    /// Sample sizes of the extrapolation.
    pub points: usize,
    /// The smallest sample of the extrapolation.
    pub min_sample: usize,
    /// Of the samples and of the intervals.
    pub seed: u64,
    /// Bootstrap resamples of the intervals; 0 = no intervals.
    pub resamples: usize,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self { mode: Mode::ArtFidInf, points: 15, min_sample: 5000, seed: 0, resamples: RESAMPLES }
    }
}

/// ArtFID with everything that explains it. Lower is better for each.
#[derive(Debug, Clone, Serialize)]
pub struct Scores {
    pub artfid: f64,
    pub fid: f64,
    /// The mean over the pairs.
    pub lpips: f64,
    /// Stylized pictures.
    pub n: usize,
    pub mode: Mode,
    /// 95 % intervals over the choice of content pictures, the style pictures being what they are.
    pub intervals: Option<Intervals>,
    /// Of each stylized picture's feature from the mean of the style pictures' features.
    #[serde(skip)]
    pub style_distance: Vec<f64>,
    /// How much each stylized picture moves FID, by [`frechet::distance_with_influence`].
    #[serde(skip)]
    influence: Vec<f64>,
    /// What the user must know before ranking by these numbers.
    pub warnings: Vec<String>,
}

impl Scores {
    /// How each picture moves FID, as [`PictureMetric::moves`] has it: an influence is of a sum, these are of a mean.
    pub(super) fn fid_moves(&self) -> impl Iterator<Item = f64> {
        self.influence.iter().map(|influence| influence * self.n as f64)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Intervals {
    pub artfid: Interval,
    pub fid: Interval,
    pub lpips: Interval,
}

/// The style pictures, as far as they can be reckoned with before the others are known.
pub struct StylePictures {
    /// [pictures, features]
    features: Tensor,
    gaussian: Gaussian,
}

impl StylePictures {
    /// From features of [`ArtFidNets::features`].
    pub fn new(features: Tensor) -> Result<Self> {
        let gaussian = Gaussian::fit(&features)?;
        gaussian.factor()?;
        Ok(Self { features, gaussian })
    }
}

/// [`score_against`] style pictures by their features [pictures, features].
pub fn score(style: &Tensor, stylized: &Tensor, lpips: &[f64], options: &ScoreOptions) -> Result<Scores> {
    let draws = || Ok(Drawn::new(lpips.len(), options.resamples, options.seed));
    score_against(&StylePictures::new(style.shallow_clone())?, (stylized, lpips), options, draws)
}

/// Scores stylized pictures: those of the style and `stylized` [n, features] from [`ArtFidNets::features`], both on one
/// device, and the LPIPS of the n pairs. `draws` gives those of n items that the options ask for, where they ask for any.
///
/// The intervals come from a bootstrap over the pairs, with FID and LPIPS of a resample from the same
/// pairs and FID moved by each picture's influence (see [`frechet::distance_with_influence`]): a plain
/// bootstrap of FID lies above the score that it should enclose. They say how far the score moves with
/// other photos; FID's bias at small n, which all strategies of one experiment share, is not in them.
pub fn score_against(
    style: &StylePictures,
    (stylized, lpips): (&Tensor, &[f64]),
    options: &ScoreOptions,
    draws: impl FnOnce() -> Result<Drawn>,
) -> Result<Scores> {
    let StylePictures { features: style, gaussian: fixed } = style;
    let n = lpips.len();
    let counted = stylized.size().first().copied().unwrap_or(0);
    ensure!(counted == n as i64, "{counted} stylized pictures have features, {n} have LPIPS");
    let mut warnings = Vec::new();
    let (plain, influence) = frechet::distance_with_influence(fixed, &Gaussian::fit(stylized)?)?;
    let fid = match options.mode {
        Mode::ArtFid => plain,
        Mode::ArtFidInf => extrapolated(style, stylized, options, &mut warnings)?.unwrap_or(plain),
    };
    let mean_lpips = lpips.iter().sum::<f64>() / n as f64;
    let artfid = product(mean_lpips, fid);
    let intervals = if options.resamples > 0 { Some(intervals(fid, &influence, lpips, &draws()?)?) } else { None };
    warnings.extend(sample_warning(style, stylized, artfid, intervals.as_ref()));
    let apart = stylized.to_kind(Kind::Double) - fixed.mean();
    let style_distance = apart.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double).sqrt();
    let style_distance = Vec::try_from(style_distance.to_device(Device::Cpu))?;
    let (lpips, mode) = (mean_lpips, options.mode);
    Ok(Scores { artfid, fid, lpips, n, mode, intervals, style_distance, influence, warnings })
}

fn product(lpips: f64, fid: f64) -> f64 {
    (lpips + 1.0) * (fid + 1.0)
}

fn intervals(fid: f64, influence: &[f64], lpips: &[f64], draws: &Drawn) -> Result<Intervals> {
    let n = lpips.len() as f64;
    let [artfid, fid, lpips] = bootstrap_of(draws, |counts| {
        let moved: f64 = counts.iter().zip(influence).map(|(count, influence)| (count - 1.0) * influence).sum();
        let fid = (fid + moved).max(0.0);
        let lpips = counts.iter().zip(lpips).map(|(count, value)| count * value).sum::<f64>() / n;
        [product(lpips, fid), fid, lpips]
    })?;
    Ok(Intervals { artfid, fid, lpips })
}

/// FID at infinity, or None where there are no more pictures than the smallest sample has.
///
/// Each sample is drawn without replacement by a generator seeded with `options.seed`. As in art-fid
/// the rows drawn are the same in both sets when these are equally large; else each set has its own.
fn extrapolated(
    style: &Tensor,
    stylized: &Tensor,
    options: &ScoreOptions,
    warnings: &mut Vec<String>,
) -> Result<Option<f64>> {
    let (styles, n) = (style.size()[0] as usize, stylized.size()[0] as usize);
    let largest = styles.min(n);
    if options.points < 2 || options.min_sample < 2 {
        return Err(usage("art_fid_inf fits a line: it needs --points and --min-sample of at least 2"));
    }
    if largest <= options.min_sample {
        warnings.push(format!(
            "art_fid_inf extrapolates from samples of {} pictures and more, here are {largest}: \
             FID is that of the whole set, as art-fid gives it (--min-sample N allows smaller samples)",
            options.min_sample
        ));
        return Ok(None);
    }
    let sizes = frechet::sample_sizes(options.min_sample, largest, options.points);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut draw = |count: usize, size: usize| {
        let mut rows: Vec<i64> = (0..count as i64).collect();
        rows.shuffle(&mut rng);
        Tensor::from_slice(&rows[..size])
    };
    let samples: Vec<(Tensor, Tensor)> = sizes
        .iter()
        .map(|&size| {
            let rows = draw(n, size);
            let style_rows = if styles == n { rows.shallow_clone() } else { draw(styles, size) };
            (style_rows, rows)
        })
        .collect();
    frechet::extrapolated(style, stylized, &sizes, &samples).map(Some)
}

/// Below this many pictures per set FID is not comparable with published values (art-fid starts its
/// extrapolation here).
const COMPARABLE: i64 = 5000;

fn sample_warning(style: &Tensor, stylized: &Tensor, artfid: f64, intervals: Option<&Intervals>) -> Option<String> {
    let (styles, n, d) = (style.size()[0], stylized.size()[0], stylized.size()[1]);
    if styles.min(n) > d {
        return None;
    }
    let mut text = format!(
        "{n} stylized and {styles} style pictures are few for {d} features: FID is biased upwards by an amount that \
         depends on the counts. Compare only scores of the same counts and the same style pictures; more than {d} \
         of each describe the features fully, and {COMPARABLE} of each are needed for published values"
    );
    if let Some(intervals) = intervals {
        let half = (intervals.artfid.high - intervals.artfid.low) / 2.0 / artfid;
        text += &format!(". Strategies that differ by less than {:.1} % are not told apart", 100.0 * half);
        if half > 0.05 {
            // Intervals shrink with the root of the count.
            text += &format!("; ±5 % takes about {:.0} pictures", n as f64 * (half / 0.05).powi(2));
        }
    }
    Some(text)
}

impl std::str::FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "art_fid" => Ok(Self::ArtFid),
            "art_fid_inf" => Ok(Self::ArtFidInf),
            other => bail!(usage(format!("unknown ArtFID mode {other:?}: use art_fid or art_fid_inf"))),
        }
    }
}
