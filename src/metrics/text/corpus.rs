//! Captions as numbers: every distinct token is numbered once, so that metrics compare integers.

use std::ops::Range;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::clip_score::ClipScores;

/// A picture's caption and what people wrote of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Caption {
    pub id: String,
    pub prediction: String,
    /// At least one.
    pub references: Vec<String>,
    /// What CLIP says of it beside its picture, where it was asked.
    pub clip: Option<ClipScores>,
}

/// What Python's `str.split` and `str.strip` take for a space.
pub(in crate::metrics) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The captions' texts in one row: of each item the prediction, then its references.
pub struct Texts<'a> {
    texts: Vec<&'a str>,
    items: Vec<Range<usize>>,
}

impl<'a> Texts<'a> {
    pub fn new(captions: &'a [Caption]) -> Texts<'a> {
        let mut texts = Vec::new();
        let items = captions
            .iter()
            .map(|caption| {
                let start = texts.len();
                texts.push(caption.prediction.as_str());
                texts.extend(caption.references.iter().map(String::as_str));
                start..texts.len()
            })
            .collect();
        Texts { texts, items }
    }

    /// Runs a tokenizer over all texts, on all cores. It puts one space between tokens, which hold none themselves.
    pub fn tokenize(&self, tokenizer: impl Fn(&str) -> String + Sync) -> Tokens {
        let texts = self.texts.par_iter().with_min_len(64).map(|text| tokenizer(text)).collect();
        Tokens { texts, items: self.items.clone() }
    }

    /// The prediction and the references of an item.
    pub fn item(&self, item: usize) -> (&'a str, &[&'a str]) {
        let texts = &self.texts[self.items[item].clone()];
        (texts[0], &texts[1..])
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// Tokenized texts, as [`Texts::tokenize`] makes them.
pub struct Tokens {
    texts: Vec<String>,
    items: Vec<Range<usize>>,
}

/// Tokenized captions with each distinct token numbered from 0.
pub struct Corpus<'a> {
    /// The tokens by number.
    pub words: Vec<&'a str>,
    tokens: Vec<u32>,
    /// Where each text ends in `tokens`.
    ends: Vec<usize>,
    items: &'a [Range<usize>],
}

impl<'a> Corpus<'a> {
    pub fn new(tokens: &'a Tokens) -> Corpus<'a> {
        let mut numbers: FxHashMap<&str, u32> = FxHashMap::default();
        let mut corpus = Corpus { words: Vec::new(), tokens: Vec::new(), ends: Vec::new(), items: &tokens.items };
        for text in &tokens.texts {
            for token in text.split(' ').filter(|token| !token.is_empty()) {
                let number = *numbers.entry(token).or_insert_with(|| {
                    corpus.words.push(token);
                    corpus.words.len() as u32 - 1
                });
                corpus.tokens.push(number);
            }
            corpus.ends.push(corpus.tokens.len());
        }
        corpus
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn text(&self, text: usize) -> &[u32] {
        let start = if text == 0 { 0 } else { self.ends[text - 1] };
        &self.tokens[start..self.ends[text]]
    }

    /// The tokens of an item's prediction.
    pub fn prediction(&self, item: usize) -> &[u32] {
        self.text(self.items[item].start)
    }

    /// The tokens of each of an item's references.
    pub fn references(&self, item: usize) -> impl ExactSizeIterator<Item = &[u32]> {
        let texts = self.items[item].clone();
        (texts.start + 1..texts.end).map(|text| self.text(text))
    }
}

/// The n-grams of a text for n from 1 to 4, sorted, each packed into one number. The token numbers are counted from 1
/// in it, so that n-grams of different length differ.
#[derive(Default)]
pub struct Ngrams {
    pub of: [Vec<u128>; 4],
}

impl Ngrams {
    /// Replaces the content by the n-grams of `tokens` up to length `longest`.
    pub fn fill(&mut self, tokens: &[u32], longest: usize) {
        for (n, grams) in (1..=longest).zip(&mut self.of) {
            grams.clear();
            grams.extend(
                tokens.windows(n).map(|gram| gram.iter().fold(0, |packed, token| packed << 32 | u128::from(token + 1))),
            );
            grams.sort_unstable();
        }
    }
}

/// The distinct values of a sorted list with their counts.
pub fn counts(sorted: &[u128]) -> impl Iterator<Item = (u128, usize)> {
    sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len()))
}

/// How often a value is in a sorted list.
pub fn count(sorted: &[u128], value: u128) -> usize {
    let start = sorted.partition_point(|other| *other < value);
    sorted[start..].iter().take_while(|other| **other == value).count()
}

/// The length of the longest common subsequence; `row` is scratch.
pub fn longest_common(a: &[u32], b: &[u32], row: &mut Vec<u32>) -> usize {
    row.clear();
    row.resize(b.len() + 1, 0);
    for left in a {
        let mut diagonal = 0;
        for (at, right) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if left == right { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row[b.len()] as usize
}
