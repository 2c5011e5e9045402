//! The trunk of Inception v3 as two metrics have it: pictures → features.
//!
//! ArtFID's, <https://github.com/matthias-wright/art-fid/blob/main/src/art_fid/inception.py>, is torchvision's Inception v3
//! (padding counts in its 3×3 averages) with two classifiers: `fc1` names styles, `fc2` what else the network was trained
//! on. FID's own, <https://github.com/mseitzer/pytorch-fid/blob/master/src/pytorch_fid/inception.py>, was carried over from
//! TensorFlow: padding does not count, the last block pools a maximum, and pictures are resized to 299×299. Features need
//! no classifier; a file may lack them. The auxiliary classifiers serve training only: their tensors are accepted and not
//! read.
//!
//! Channel widths are those of the tensors, so a narrower network of the same structure loads too;
//! what does not fit together is an error. BatchNorm is folded into the convolutions at load.

mod blocks;

use std::path::Path;

use anyhow::{Result, bail, ensure};
use tch::Tensor;

use self::blocks::{Chain, Mixed, MixedE, max_pool};
use crate::checkpoints::{Checkpoint, Weights};
use crate::models::Family;

/// The first layer, which both variants have.
const TENSORS: &[&str] = &["Conv2d_1a_3x3.conv.weight"];
/// FID's classifier.
const CLASSIFIER: &str = "fc.weight";
/// Classes of the Inception v3 that FID is published in; others that share its layers have others.
const FID_CLASSES: i64 = 1008;

/// ArtFID's.
pub static ART_FAMILY: Family = Family {
    is_file: |_, checkpoint| Ok(checkpoint.entry(CLASSIFIER).is_none()),
    ..Family::metric_net("metric net art-Inception", TENSORS, true)
};

/// The one that FID is published in.
pub static FID_FAMILY: Family =
    Family { is_file: is_of_fid, ..Family::metric_net("metric net Inception v3", TENSORS, false) };

fn is_of_fid(file: &Path, checkpoint: &Checkpoint) -> Result<bool> {
    let Some(classifier) = checkpoint.entry(CLASSIFIER) else { return Ok(false) };
    match classifier.shape.first() {
        Some(&FID_CLASSES) => Ok(true),
        classes => bail!(
            "{}: an Inception v3 of {} classes (fc.weight), such as torchvision's: FID's has {FID_CLASSES} and other \
             weights (`toolkit models pull inception-v3`)",
            file.display(),
            classes.copied().unwrap_or(0)
        ),
    }
}

/// Smaller pictures leave nothing for the last layers of art-Inception.
pub const MIN_SIZE: u32 = 75;

/// Side of the pictures that FID's network sees.
const FID_SIDE: i64 = 299;

/// Which of the networks that share these layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// ArtFID's.
    Art,
    /// The one that FID is published in (pytorch-fid's).
    Fid,
}

impl Variant {
    /// How it is called in messages.
    pub fn title(self) -> &'static str {
        match self {
            Self::Art => "art-Inception",
            Self::Fid => "FID's Inception v3",
        }
    }

    fn padding_counts(self) -> bool {
        self == Self::Art
    }

    /// Whether the last block's pool is a maximum.
    fn ends_in_maximum(self) -> bool {
        self == Self::Fid
    }

    /// The smallest width and height of a picture.
    pub fn least(self) -> u32 {
        match self {
            Self::Art => MIN_SIZE,
            // It resizes every picture itself.
            Self::Fid => 1,
        }
    }
}

/// Pictures → features, the global averages of the last block.
#[derive(Debug)]
pub struct Inception {
    variant: Variant,
    stem: Chain,
    stem_pooled: Chain,
    mixed: Vec<Mixed>,
    mixed_7b: MixedE,
    mixed_7c: MixedE,
    fc1: Option<Linear>,
    fc2: Option<Linear>,
}

/// A classifier on the features.
#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// None where the file has no such head.
    fn find(weights: &Weights, input: i64) -> Result<Option<Self>> {
        let Some(&[classes, _]) = weights.shape("weight").as_deref() else {
            weights.ignore();
            return Ok(None);
        };
        Ok(Some(Self { weight: weights.get("weight", &[classes, input])?, bias: weights.get("bias", &[classes])? }))
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

impl Inception {
    /// Builds the network; the classifiers (`fc1`, `fc2`, `AuxLogits1`, `AuxLogits2` of art-Inception, `fc` of FID's)
    /// may be there or not.
    pub fn new(weights: &Weights, variant: Variant) -> Result<Self> {
        let mut stem = Chain::new(
            weights,
            3,
            &[("Conv2d_1a_3x3", 32, [3, 3]), ("Conv2d_2a_3x3", 32, [3, 3]), ("Conv2d_2b_3x3", 64, [3, 3])],
        )?;
        stem.0[0].stride = 2;
        stem.0[0].padding = [0, 0];
        stem.0[1].padding = [0, 0];
        let steps = [("Conv2d_3b_1x1", 80, [1, 1]), ("Conv2d_4a_3x3", 192, [3, 3])];
        let mut stem_pooled = Chain::new(weights, stem.output(), &steps)?;
        stem_pooled.0[1].padding = [0, 0];

        let mut mixed: Vec<Mixed> = Vec::new();
        let mut push = |block: Mixed| {
            let output = block.output();
            mixed.push(block);
            output
        };
        let at = |name: &str| weights.at(name);
        let c = push(Mixed::block_a(&at("Mixed_5b"), stem_pooled.output(), 32, variant)?);
        let c = push(Mixed::block_a(&at("Mixed_5c"), c, 64, variant)?);
        let c = push(Mixed::block_a(&at("Mixed_5d"), c, 64, variant)?);
        let c = push(Mixed::block_b(&at("Mixed_6a"), c)?);
        let c = push(Mixed::block_c(&at("Mixed_6b"), c, 128, variant)?);
        let c = push(Mixed::block_c(&at("Mixed_6c"), c, 160, variant)?);
        let c = push(Mixed::block_c(&at("Mixed_6d"), c, 160, variant)?);
        let c = push(Mixed::block_c(&at("Mixed_6e"), c, 192, variant)?);
        let c = push(Mixed::block_d(&at("Mixed_7a"), c)?);
        let mixed_7b = MixedE::new(&at("Mixed_7b"), c, variant, false)?;
        let mixed_7c = MixedE::new(&at("Mixed_7c"), mixed_7b.output(), variant, true)?;
        let head = |name: &str| Linear::find(&weights.at(name), mixed_7c.output());
        let (fc1, fc2) = match variant {
            Variant::Art => (head("fc1")?, head("fc2")?),
            Variant::Fid => (None, None),
        };
        let unused: &[&str] = match variant {
            Variant::Art => &["AuxLogits1", "AuxLogits2"],
            Variant::Fid => &["fc"],
        };
        unused.iter().for_each(|unused| weights.at(unused).ignore());
        Ok(Self { variant, stem, stem_pooled, mixed, mixed_7b, mixed_7c, fc1, fc2 })
    }

    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// How many numbers describe a picture (2048 in the published network).
    pub fn width(&self) -> i64 {
        self.mixed_7c.output()
    }

    /// [batch, 3, height, width] in [0, 1], not normalised, at least [`Variant::least`] high and wide →
    /// [batch, features].
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let size = pixels.size();
        let [_, 3, height, width] = size[..] else { bail!("pictures are [batch, 3, height, width], not {size:?}") };
        let least = self.variant.least();
        ensure!(
            height >= least.into() && width >= least.into(),
            "pictures of {width}×{height} are too small for {} (at least {least}×{least})",
            self.variant.title()
        );
        let resized = (self.variant == Variant::Fid).then(|| scaled(pixels));
        let mut x = max_pool(&self.stem.forward(resized.as_ref().unwrap_or(pixels))); // 224 → 54
        x = max_pool(&self.stem_pooled.forward(&x)); // → 25
        for block in &self.mixed {
            x = block.forward(&x); // → 12 at Mixed_6a → 5 at Mixed_7a
        }
        x = self.mixed_7c.forward(&self.mixed_7b.forward(&x));
        Ok(x.mean_dim([2i64, 3].as_slice(), false, x.kind()))
    }

    /// Features [batch, features] → the logits of both classifiers, [batch, styles] and
    /// [batch, classes]; none where the file has no classifiers.
    pub fn classify(&self, features: &Tensor) -> Option<(Tensor, Tensor)> {
        Some((self.fc1.as_ref()?.forward(features), self.fc2.as_ref()?.forward(features)))
    }
}

/// As pytorch-fid feeds its network: any size → [batch, 3, 299, 299], [0, 1] → [-1, 1].
fn scaled(pixels: &Tensor) -> Tensor {
    let resized = pixels.upsample_bilinear2d([FID_SIDE, FID_SIDE], false, None, None);
    resized * 2.0 - 1.0
}
