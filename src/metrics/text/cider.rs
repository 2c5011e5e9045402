//! CIDEr-D (Vedantam et al. 2015) as the COCO caption evaluation computes it, without stemming.
//!
//! Source: <https://github.com/salaniz/pycocoevalcap/blob/master/cider/cider_scorer.py>.

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::corpus::{Corpus, Ngrams, count, counts};
use super::{CAPTIONS, CaptionMetric, Measured, Prepared, Profile};
use crate::metrics::{About, Metric, Show};

/// CIDEr-D as the COCO caption evaluation gives it.
#[derive(Debug)]
pub struct Cider;

static ABOUT: About = About {
    name: "cider",
    label: "CIDEr",
    help: "CIDEr-D, 0 to 10, as the COCO evaluation computes it",
    item: Some("CIDEr-D, 0 to 10"),
    interval: true,
    show: Show::Compared,
    ..CAPTIONS
};

impl Metric for Cider {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn of_captions(&self) -> Option<&dyn CaptionMetric> {
        Some(self)
    }
}

impl CaptionMetric for Cider {
    fn profile(&self) -> Profile {
        Profile::Coco
    }

    fn measure(&self, texts: &Prepared) -> Measured {
        Measured::mean(ABOUT.name, texts.coco().cider.clone())
    }
}

/// Width of the penalty on a difference in length.
const SIGMA: f64 = 6.0;

/// CIDEr-D of each item, 0 to 10. The weights of n-grams come from the references of all items, so the value of an item
/// depends on the others.
pub fn scores(corpus: &Corpus) -> Vec<f64> {
    let weights = Weights::new(corpus);
    (0..corpus.len())
        .into_par_iter()
        .map_init(<(Ngrams, Ngrams)>::default, |(hypothesis, reference), item| {
            hypothesis.fill(corpus.prediction(item), 4);
            let norms = weights.norms(hypothesis);
            let mut sum = 0.0;
            for tokens in corpus.references(item) {
                reference.fill(tokens, 4);
                sum += weights.similarity(hypothesis, &norms, reference);
            }
            10.0 * sum / 4.0 / corpus.references(item).len().max(1) as f64
        })
        .collect()
}

/// Inverse document frequencies; a document is the references of one item.
struct Weights {
    documents: f64,
    frequency: FxHashMap<u128, u32>,
}

impl Weights {
    fn new(corpus: &Corpus) -> Weights {
        let mut frequency: FxHashMap<u128, u32> = FxHashMap::default();
        let (mut grams, mut document) = (Ngrams::default(), Vec::new());
        for item in 0..corpus.len() {
            document.clear();
            for tokens in corpus.references(item) {
                grams.fill(tokens, 4);
                grams.of.iter().for_each(|grams| document.extend_from_slice(grams));
            }
            document.sort_unstable();
            document.dedup();
            document.iter().for_each(|gram| *frequency.entry(*gram).or_default() += 1);
        }
        Weights { documents: (corpus.len() as f64).ln(), frequency }
    }

    fn weight(&self, gram: u128) -> f64 {
        self.documents - f64::from(self.frequency.get(&gram).copied().unwrap_or(0).max(1)).ln()
    }

    fn norms(&self, grams: &Ngrams) -> [f64; 4] {
        std::array::from_fn(|n| {
            let squares = counts(&grams.of[n]).map(|(gram, found)| (found as f64 * self.weight(gram)).powi(2));
            squares.sum::<f64>().sqrt()
        })
    }

    /// Sum over n of the clipped cosine, with the penalty on the difference of the numbers of bigrams.
    fn similarity(&self, hypothesis: &Ngrams, norms: &[f64; 4], reference: &Ngrams) -> f64 {
        let difference = hypothesis.of[1].len() as f64 - reference.of[1].len() as f64;
        let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        let reference_norms = self.norms(reference);
        (0..4)
            .map(|n| {
                let products = counts(&hypothesis.of[n]).map(|(gram, found)| {
                    let weight = self.weight(gram);
                    let other = count(&reference.of[n], gram) as f64 * weight;
                    (found as f64 * weight).min(other) * other
                });
                let product: f64 = products.sum();
                let norm = norms[n] * reference_norms[n];
                if norm == 0.0 { product * penalty } else { product / norm * penalty }
            })
            .sum()
    }
}
