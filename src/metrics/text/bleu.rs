//! BLEU (Papineni et al. 2002) in its two common readings: that of Hugging Face `evaluate` (shortest reference, mteval-v13a
//! tokens, letters as they are) and that of the COCO caption evaluation (closest reference, PTB tokens).
//!
//! Sources: <https://github.com/tensorflow/nmt/blob/master/nmt/scripts/bleu.py>, which `evaluate` runs, and
//! <https://github.com/salaniz/pycocoevalcap/blob/master/bleu/bleu_scorer.py>.

use rayon::prelude::*;

use super::corpus::{Corpus, Ngrams, count, counts, is_python_space};
use super::{CAPTIONS, CaptionMetric, Measured, Prepared, Profile, Total};
use crate::metrics::{About, Metric, Show};

/// BLEU-4 as Hugging Face `evaluate` gives it.
#[derive(Debug)]
pub struct Bleu;

static BLEU: About = About {
    name: "bleu",
    label: "BLEU",
    help: "BLEU-4 over all captions; below it the 95 % interval",
    item: Some("BLEU-4 of the caption alone, every precision smoothed by one"),
    interval: true,
    show: Show::Headline,
    ..CAPTIONS
};

impl Metric for Bleu {
    fn about(&self) -> &About {
        &BLEU
    }

    fn of_captions(&self) -> Option<&dyn CaptionMetric> {
        Some(self)
    }
}

impl CaptionMetric for Bleu {
    fn profile(&self) -> Profile {
        Profile::Hf
    }

    fn measure(&self, texts: &Prepared) -> Measured {
        let counts = texts.bleu();
        let smoothed = counts.iter().map(|counts| evaluate_bleu(counts, true)).collect();
        Measured::new(BLEU.name, smoothed, Total::EvaluateBleu(counts.clone()))
    }
}

/// BLEU as the COCO caption evaluation gives it.
#[derive(Debug)]
pub struct CocoBleu {
    about: About,
    /// The longest n-grams have one word more.
    order: usize,
}

pub static COCO_BLEU: [CocoBleu; 4] = [
    CocoBleu::new("bleu1", "BLEU-1 (COCO)", "BLEU-1 of the caption alone", 0),
    CocoBleu::new("bleu2", "BLEU-2 (COCO)", "BLEU-2 of the caption alone", 1),
    CocoBleu::new("bleu3", "BLEU-3 (COCO)", "BLEU-3 of the caption alone", 2),
    CocoBleu::new("bleu4", "BLEU-4 (COCO)", "BLEU-4 of the caption alone", 3),
];

impl CocoBleu {
    const fn new(name: &'static str, label: &'static str, item: &'static str, order: usize) -> Self {
        let help = "BLEU over all captions as the COCO evaluation computes it";
        Self { about: About { name, label, help, item: Some(item), ..CAPTIONS }, order }
    }
}

impl Metric for CocoBleu {
    fn about(&self) -> &About {
        &self.about
    }

    fn of_captions(&self) -> Option<&dyn CaptionMetric> {
        Some(self)
    }
}

impl CaptionMetric for CocoBleu {
    fn profile(&self) -> Profile {
        Profile::Coco
    }

    fn measure(&self, texts: &Prepared) -> Measured {
        let counts = &texts.coco().bleu;
        let per_item = counts.iter().map(|counts| coco_bleu(counts)[self.order]).collect();
        Measured::new(self.about.name, per_item, Total::CocoBleu(counts.clone(), self.order))
    }
}

/// What one item adds to corpus BLEU; sums over items are again such counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// N-grams of the prediction that a reference has, for n = 1 to 4.
    pub matched: [u64; 4],
    /// N-grams of the prediction.
    pub possible: [u64; 4],
    /// Tokens of the prediction, and of the reference that it is compared with.
    pub length: u64,
    pub reference: u64,
}

impl std::ops::AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        for n in 0..4 {
            self.matched[n] += other.matched[n];
            self.possible[n] += other.possible[n];
        }
        self.length += other.length;
        self.reference += other.reference;
    }
}

/// Which of several references gives the reference length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceLength {
    Shortest,
    /// The closest to the prediction's; of two, the shorter.
    Closest,
}

/// The counts of each item.
pub fn item_counts(corpus: &Corpus, rule: ReferenceLength) -> Vec<Counts> {
    (0..corpus.len())
        .into_par_iter()
        .map_init(<(Ngrams, Vec<Ngrams>)>::default, |(prediction, references), item| {
            let tokens = corpus.prediction(item);
            let lengths = corpus.references(item).map(<[u32]>::len);
            let reference = match rule {
                ReferenceLength::Shortest => lengths.min(),
                ReferenceLength::Closest => lengths.min_by_key(|length| (length.abs_diff(tokens.len()), *length)),
            };
            prediction.fill(tokens, 4);
            references.resize_with(references.len().max(corpus.references(item).len()), Ngrams::default);
            for (grams, reference) in references.iter_mut().zip(corpus.references(item)) {
                grams.fill(reference, 4);
            }
            let references = &references[..corpus.references(item).len()];
            let matched = |n: usize| {
                counts(&prediction.of[n])
                    .map(|(gram, found)| {
                        found.min(references.iter().map(|other| count(&other.of[n], gram)).max().unwrap_or(0)) as u64
                    })
                    .sum()
            };
            Counts {
                matched: std::array::from_fn(matched),
                possible: std::array::from_fn(|n| prediction.of[n].len() as u64),
                length: tokens.len() as u64,
                reference: reference.unwrap_or(0) as u64,
            }
        })
        .collect()
}

/// BLEU-4 of summed counts as `evaluate` computes it. With `smooth`, every precision gets one more match and one more
/// n-gram, so that a single caption without a common 4-gram is not simply 0. 0 for an empty prediction.
pub fn evaluate_bleu(sum: &Counts, smooth: bool) -> f64 {
    if sum.length == 0 {
        return 0.0;
    }
    let precision = |n: usize| match (smooth, sum.possible[n]) {
        (true, possible) => (sum.matched[n] as f64 + 1.0) / (possible as f64 + 1.0),
        (false, 0) => 0.0,
        (false, possible) => sum.matched[n] as f64 / possible as f64,
    };
    let precisions: [f64; 4] = std::array::from_fn(precision);
    if precisions.contains(&0.0) {
        return 0.0;
    }
    let mean = precisions.iter().map(|precision| 0.25 * precision.ln()).sum::<f64>().exp();
    let ratio = sum.length as f64 / sum.reference as f64;
    mean * if ratio > 1.0 { 1.0 } else { (1.0 - 1.0 / ratio).exp() }
}

/// BLEU-1 to BLEU-4 of summed counts as the COCO evaluation computes them.
pub fn coco_bleu(sum: &Counts) -> [f64; 4] {
    const TINY: f64 = 1e-15;
    const SMALL: f64 = 1e-9;
    let ratio = (sum.length as f64 + TINY) / (sum.reference as f64 + SMALL);
    let penalty = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
    let mut product = 1.0;
    std::array::from_fn(|n| {
        product *= (sum.matched[n] as f64 + TINY) / (sum.possible[n] as f64 + SMALL);
        product.powf(1.0 / (n as f64 + 1.0)) * penalty
    })
}

/// The mteval-v13a tokens with one space between them; letters keep their case.
pub fn tokenize_13a(text: &str) -> String {
    let mut line = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if line.contains('&') {
        line = line.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    }
    // All rules are about ASCII, so they can work on bytes: what is between is copied as it is.
    let mut bytes = Vec::with_capacity(line.len() + 16);
    bytes.push(b' ');
    for byte in line.bytes() {
        let symbol = matches!(byte, b'{'..=b'~' | b'['..=b'`' | b' '..=b'&' | b'('..=b'+' | b':'..=b'@' | b'/');
        if symbol { bytes.extend([b' ', byte, b' ']) } else { bytes.push(byte) }
    }
    bytes.push(b' ');
    let stop = |byte: u8| matches!(byte, b'.' | b',');
    let digit = |byte: u8| byte.is_ascii_digit();
    let bytes = rewrite_pairs(&bytes, |a, b| !digit(a) && stop(b), |a, b| [a, b' ', b, b' ']);
    let bytes = rewrite_pairs(&bytes, |a, b| stop(a) && !digit(b), |a, b| [b' ', a, b' ', b]);
    let bytes = rewrite_pairs(&bytes, |a, b| digit(a) && b == b'-', |a, b| [a, b' ', b, b' ']);
    let line = String::from_utf8_lossy(&bytes);
    let mut tokens = String::with_capacity(line.len());
    for token in line.split(is_python_space).filter(|token| !token.is_empty()) {
        if !tokens.is_empty() {
            tokens.push(' ');
        }
        tokens.push_str(token);
    }
    tokens
}

/// Rewrites the pairs of neighbours that `fits`, from left to right, none overlapping.
fn rewrite_pairs(bytes: &[u8], fits: impl Fn(u8, u8) -> bool, by: impl Fn(u8, u8) -> [u8; 4]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    let mut at = 0;
    while at < bytes.len() {
        match bytes.get(at + 1) {
            Some(next) if fits(bytes[at], *next) => {
                out.extend(by(bytes[at], *next));
                at += 2;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}
