//! METEOR as NLTK computes it (Lavie and Agarwal 2007, with WordNet synonyms), which Hugging Face `evaluate` calls.
//!
//! Source: <https://github.com/nltk/nltk/blob/develop/nltk/translate/meteor_score.py>.

pub mod porter;
pub mod punkt;
pub mod wordnet;
pub mod words;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use self::wordnet::WordNet;
use super::corpus::{Corpus, Texts};
use super::{CAPTIONS, CaptionMetric, Measured, Prepared, Profile};
use crate::metrics::{About, Metric, Show};

/// METEOR as Hugging Face `evaluate` gives it.
#[derive(Debug)]
pub struct Meteor;

static ABOUT: About = About {
    name: "meteor",
    label: "METEOR",
    help: "words, stems and synonyms, best reference",
    item: Some("METEOR of the best reference"),
    interval: true,
    show: Show::Headline,
    ..CAPTIONS
};

impl Metric for Meteor {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn of_captions(&self) -> Option<&dyn CaptionMetric> {
        Some(self)
    }
}

impl CaptionMetric for Meteor {
    fn profile(&self) -> Profile {
        Profile::Hf
    }

    fn measure(&self, texts: &Prepared) -> Measured {
        Measured::mean(ABOUT.name, scores(&texts.texts))
    }
}

/// Weight of precision against recall, shape and weight of the fragmentation penalty.
const ALPHA: f64 = 0.9;
const BETA: i32 = 3;
const GAMMA: f64 = 0.5;

/// METEOR of each item: the best over its references; 0 where nothing matches.
pub fn scores(texts: &Texts) -> Vec<f64> {
    let tokens = texts.tokenize(|text| words::word_tokenize(text).to_lowercase());
    let corpus = Corpus::new(&tokens);
    let lexicon = Lexicon::new(&corpus.words);
    (0..corpus.len())
        .into_par_iter()
        .map_init(Aligner::default, |aligner, item| {
            let score = |reference| aligner.score(&lexicon, corpus.prediction(item), reference);
            corpus.references(item).map(score).fold(0.0, f64::max)
        })
        .collect()
}

/// The stem of each word, and the stems that are synonyms of each stem.
struct Lexicon {
    stems: Vec<u32>,
    synonyms: Vec<Vec<u32>>,
}

impl Lexicon {
    fn new(words: &[&str]) -> Lexicon {
        let stemmed: Vec<String> = words.par_iter().map(|word| porter::stem(word)).collect();
        let mut numbers: FxHashMap<&str, u32> = FxHashMap::default();
        let mut distinct = Vec::new();
        let stems = stemmed
            .iter()
            .map(|stem| {
                *numbers.entry(stem).or_insert_with(|| {
                    distinct.push(stem.as_str());
                    distinct.len() as u32 - 1
                })
            })
            .collect();
        // The words that are left for WordNet are looked up as their stems: so the original has it.
        let wordnet = WordNet::embedded();
        let synonyms = distinct
            .par_iter()
            .map(|stem| wordnet.synonyms(stem).iter().filter_map(|name| numbers.get(name).copied()).collect())
            .collect();
        Lexicon { stems, synonyms }
    }
}

/// Aligns two captions; keeps its buffers.
#[derive(Default)]
struct Aligner {
    /// Words left over: place and number of the word or its stem.
    hypothesis: Vec<(u32, u32)>,
    reference: Vec<(u32, u32)>,
    matches: Vec<(u32, u32)>,
}

impl Aligner {
    fn score(&mut self, lexicon: &Lexicon, hypothesis: &[u32], reference: &[u32]) -> f64 {
        self.align(lexicon, hypothesis, reference);
        if self.matches.is_empty() {
            return 0.0;
        }
        let matched = self.matches.len() as f64;
        let precision = matched / hypothesis.len() as f64;
        let recall = matched / reference.len() as f64;
        let mean = (precision * recall) / (ALPHA * precision + (1.0 - ALPHA) * recall);
        let breaks = self.matches.windows(2).filter(|pair| pair[1] != (pair[0].0 + 1, pair[0].1 + 1)).count();
        let fragmentation = (breaks + 1) as f64 / matched;
        (1.0 - GAMMA * fragmentation.powi(BETA)) * mean
    }

    /// Fills `matches`, sorted by the place in the hypothesis: equal words, then stems, then synonyms.
    fn align(&mut self, lexicon: &Lexicon, hypothesis: &[u32], reference: &[u32]) {
        for (left, words) in [(&mut self.hypothesis, hypothesis), (&mut self.reference, reference)] {
            left.clear();
            left.extend((0..).zip(words.iter().copied()));
        }
        self.matches.clear();
        self.stage(|hypothesis, reference| hypothesis == reference);
        for (_, word) in self.hypothesis.iter_mut().chain(&mut self.reference) {
            *word = lexicon.stems[*word as usize];
        }
        self.stage(|hypothesis, reference| hypothesis == reference);
        self.stage(|hypothesis, reference| lexicon.synonyms[hypothesis as usize].contains(&reference));
        self.matches.sort_unstable();
    }

    /// From the last hypothesis word to the first, each takes the last reference word that is left and fits.
    fn stage(&mut self, fits: impl Fn(u32, u32) -> bool) {
        for index in (0..self.hypothesis.len()).rev() {
            let (at, word) = self.hypothesis[index];
            if let Some(found) = self.reference.iter().rposition(|(_, reference)| fits(word, *reference)) {
                self.matches.push((at, self.reference.remove(found).0));
                self.hypothesis.remove(index);
            }
        }
    }
}
