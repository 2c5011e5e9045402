//! ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum (Lin 2004) as the package `rouge_score` computes them without stemming, and
//! ROUGE-L as the COCO caption evaluation does.
//!
//! Sources: <https://github.com/google-research/google-research/blob/master/rouge/rouge_scorer.py> and
//! <https://github.com/salaniz/pycocoevalcap/blob/master/rouge/rouge.py>.

use rayon::prelude::*;

use super::corpus::{Corpus, Ngrams, Texts, count, counts, longest_common};
use super::{CAPTIONS, CaptionMetric, Measured, Prepared, Profile};
use crate::metrics::{About, Metric, Show};

/// One of the ROUGE values that `rouge_score` computes together.
#[derive(Debug)]
pub struct RougeMetric {
    about: About,
    value: fn(&Rouge) -> f64,
}

const BEST: Option<&str> = Some("F-measure of the best reference");

pub static ROUGE: [RougeMetric; 4] = [
    RougeMetric {
        about: About {
            name: "rouge1",
            label: "ROUGE-1",
            help: "F-measure of single words, best reference",
            item: BEST,
            interval: true,
            show: Show::Headline,
            ..CAPTIONS
        },
        value: |rouge| rouge.rouge1,
    },
    RougeMetric {
        about: About {
            name: "rouge2",
            label: "ROUGE-2",
            help: "F-measure of word pairs, best reference",
            item: BEST,
            interval: true,
            show: Show::Headline,
            ..CAPTIONS
        },
        value: |rouge| rouge.rouge2,
    },
    RougeMetric {
        about: About {
            name: "rougeL",
            label: "ROUGE-L",
            help: "F-measure of the longest common subsequence",
            item: BEST,
            show: Show::Table,
            ..CAPTIONS
        },
        value: |rouge| rouge.rouge_l,
    },
    RougeMetric {
        about: About {
            name: "rougeLsum",
            label: "ROUGE-Lsum",
            help: "ROUGE-L with lines as sentences",
            item: BEST,
            ..CAPTIONS
        },
        value: |rouge| rouge.rouge_lsum,
    },
];

impl Metric for RougeMetric {
    fn about(&self) -> &About {
        &self.about
    }

    fn of_captions(&self) -> Option<&dyn CaptionMetric> {
        Some(self)
    }
}

impl CaptionMetric for RougeMetric {
    fn profile(&self) -> Profile {
        Profile::Hf
    }

    fn measure(&self, texts: &Prepared) -> Measured {
        Measured::mean(self.about.name, texts.rouge().iter().map(self.value).collect())
    }
}

/// ROUGE-L as the COCO caption evaluation gives it.
#[derive(Debug)]
pub struct CocoRouge;

static COCO: About = About {
    name: "rougeL_coco",
    label: "ROUGE-L (COCO)",
    help: "ROUGE-L as the COCO evaluation computes it",
    item: Some("F-measure, β = 1.2, over all references"),
    ..CAPTIONS
};

impl Metric for CocoRouge {
    fn about(&self) -> &About {
        &COCO
    }

    fn of_captions(&self) -> Option<&dyn CaptionMetric> {
        Some(self)
    }
}

impl CaptionMetric for CocoRouge {
    fn profile(&self) -> Profile {
        Profile::Coco
    }

    fn measure(&self, texts: &Prepared) -> Measured {
        Measured::mean(COCO.name, texts.coco().rouge_l.clone())
    }
}

/// F-measures of one item, each of the reference where it is highest.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rouge {
    pub rouge1: f64,
    pub rouge2: f64,
    pub rouge_l: f64,
    pub rouge_lsum: f64,
}

/// ROUGE of each item.
pub fn scores(texts: &Texts) -> Vec<Rouge> {
    let tokens = texts.tokenize(tokenize);
    let corpus = Corpus::new(&tokens);
    (0..corpus.len())
        .into_par_iter()
        .map_init(<(Ngrams, Ngrams, Vec<u32>)>::default, |(hypothesis, reference, row), item| {
            let prediction = corpus.prediction(item);
            hypothesis.fill(prediction, 2);
            let mut best = Rouge::default();
            for tokens in corpus.references(item) {
                reference.fill(tokens, 2);
                let common = |n: usize| {
                    let hits = |(gram, found): (u128, usize)| found.min(count(&hypothesis.of[n], gram));
                    counts(&reference.of[n]).map(hits).sum()
                };
                let f = |n: usize| f_measure(common(n), hypothesis.of[n].len(), reference.of[n].len());
                let longest = longest_common(tokens, prediction, row);
                best.rouge1 = best.rouge1.max(f(0));
                best.rouge2 = best.rouge2.max(f(1));
                best.rouge_l = best.rouge_l.max(f_measure(longest, prediction.len(), tokens.len()));
            }
            best.rouge_lsum = summary_score(texts, item, best.rouge_l);
            best
        })
        .collect()
}

/// Lower-case runs of a to z and 0 to 9, one space between them. Every other character parts tokens.
pub fn tokenize(text: &str) -> String {
    let mut tokens = String::with_capacity(text.len());
    let mut push = |c: char| {
        if c.is_ascii_alphanumeric() {
            tokens.push(c);
        } else if !tokens.is_empty() && !tokens.ends_with(' ') {
            tokens.push(' ');
        }
    };
    if text.is_ascii() {
        text.bytes().for_each(|byte| push(char::from(byte.to_ascii_lowercase())));
    } else {
        text.to_lowercase().chars().for_each(push);
    }
    tokens.truncate(tokens.trim_end().len());
    tokens
}

fn f_measure(hits: usize, prediction: usize, reference: usize) -> f64 {
    let precision = hits as f64 / prediction.max(1) as f64;
    let recall = hits as f64 / reference.max(1) as f64;
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}

/// ROUGE-Lsum: lines are sentences. Where all texts are one line it is ROUGE-L, which is given.
fn summary_score(texts: &Texts, item: usize, rouge_l: f64) -> f64 {
    let (prediction, references) = texts.item(item);
    if !prediction.contains('\n') && !references.iter().any(|text| text.contains('\n')) {
        return rouge_l;
    }
    let sentences = |text: &str| -> Vec<Vec<String>> {
        let lines = text.split('\n').filter(|line| !line.is_empty());
        lines.map(|line| tokenize(line).split(' ').filter(|t| !t.is_empty()).map(str::to_owned).collect()).collect()
    };
    let prediction = sentences(prediction);
    references.iter().map(|reference| union_score(&sentences(reference), &prediction)).fold(0.0, f64::max)
}

/// The words of each reference sentence that are in its longest common subsequence with any predicted sentence,
/// none counted more often than both sides have it.
fn union_score(reference: &[Vec<String>], prediction: &[Vec<String>]) -> f64 {
    let occurrences = |sentences: &[Vec<String>]| {
        let mut counts = rustc_hash::FxHashMap::<String, usize>::default();
        sentences.iter().flatten().for_each(|token| *counts.entry(token.clone()).or_default() += 1);
        counts
    };
    let (mut left, mut right) = (occurrences(reference), occurrences(prediction));
    let mut hits = 0;
    for sentence in reference {
        let mut common = vec![false; sentence.len()];
        prediction.iter().for_each(|other| mark_longest_common(sentence, other, &mut common));
        for (token, _) in sentence.iter().zip(common).filter(|(_, common)| *common) {
            if let (Some(a @ 1..), Some(b @ 1..)) = (left.get_mut(token), right.get_mut(token)) {
                (*a, *b) = (*a - 1, *b - 1);
                hits += 1;
            }
        }
    }
    let length = |sentences: &[Vec<String>]| sentences.iter().map(Vec::len).sum();
    f_measure(hits, length(prediction), length(reference))
}

/// Marks in `common` the places of one longest common subsequence: that which the original's backtracking finds.
fn mark_longest_common(reference: &[String], prediction: &[String], common: &mut [bool]) {
    let width = prediction.len() + 1;
    let mut table = vec![0_u32; (reference.len() + 1) * width];
    for (i, a) in reference.iter().enumerate() {
        for (j, b) in prediction.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if a == b {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j) = (reference.len(), prediction.len());
    while i > 0 && j > 0 {
        if reference[i - 1] == prediction[j - 1] {
            common[i - 1] = true;
            (i, j) = (i - 1, j - 1);
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
}

/// ROUGE-L of each item as the COCO evaluation computes it: β = 1.2, the best precision and the best recall may come from
/// different references. An empty caption counts as one empty word.
pub fn coco_rouge_l(corpus: &Corpus) -> Vec<f64> {
    const BETA_SQUARED: f64 = 1.2 * 1.2;
    const EMPTY: &[u32] = &[u32::MAX];
    let or_empty = |tokens| if <[u32]>::is_empty(tokens) { EMPTY } else { tokens };
    (0..corpus.len())
        .into_par_iter()
        .map_init(Vec::new, |row, item| {
            let prediction = or_empty(corpus.prediction(item));
            let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
            for reference in corpus.references(item).map(or_empty) {
                let longest = longest_common(reference, prediction, row) as f64;
                precision = precision.max(longest / prediction.len() as f64);
                recall = recall.max(longest / reference.len() as f64);
            }
            if precision == 0.0 || recall == 0.0 {
                return 0.0;
            }
            (1.0 + BETA_SQUARED) * precision * recall / (recall + BETA_SQUARED * precision)
        })
        .collect()
}
