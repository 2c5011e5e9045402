//! Composes `description, style` within a text encoder's limit: pure, no models.
//!
//! CLIP reads 77 tokens and no more, and what comes last is lost first. The style text comes last,
//! so the *description* is shortened from its end, word by word, until all of the style fits.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use serde::Serialize;
use tokenizers::Tokenizer;

use crate::error::usage;

/// What may not be left dangling before `, style`: a sentence's full stop would give `red hair., oil
/// painting`, where CLIP reads `.,` as one token that joins nothing. `!` and `?` carry meaning and stay.
const DANGLING: [char; 7] = ['.', ',', ';', ':', '-', '–', '—'];

/// The limit of a generator's text encoders and the tokenizers that count for it.
#[derive(Debug, Clone)]
pub struct TokenBudget {
    tokenizers: Vec<Arc<Tokenizer>>,
    limit: usize,
}

/// A prompt that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Composed {
    /// `description, style`.
    pub prompt: String,
    /// Its tokens, begin and end included; with several tokenizers the largest count.
    pub tokens: usize,
    /// The most tokens that the text encoder reads.
    pub limit: usize,
    /// The words of the description that did not fit; empty = none.
    pub dropped: String,
}

impl TokenBudget {
    /// `limit` counts begin and end tokens, which the tokenizers add themselves. With several
    /// tokenizers (Stable Diffusion 3 has two of CLIP's) a text must fit all of them.
    pub fn new(tokenizers: Vec<Arc<Tokenizer>>, limit: usize) -> Self {
        Self { tokenizers, limit }
    }

    /// The most tokens that the text encoder reads, begin and end included.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Tokens of `text`, begin and end included, however long it is.
    pub fn count(&self, text: &str) -> Result<usize> {
        let mut most = 0;
        for tokenizer in &self.tokenizers {
            let encoding = tokenizer.encode(text, true).map_err(|error| anyhow!("tokenizing {text:?}: {error}"))?;
            most = most.max(encoding.len());
        }
        Ok(most)
    }

    /// `description, style`, the description cut from its end, word by word, until the whole fits.
    ///
    /// White space in the description becomes single spaces (CLIP reads it so), and punctuation that
    /// would dangle before the style is left out. No description = the style alone, and no style =
    /// the description alone. A style that does not fit by itself is wrong usage.
    pub fn compose(&self, description: &str, style: &str) -> Result<Composed> {
        let (words, style) = (description.split_whitespace().collect::<Vec<_>>(), style.trim());
        let alone = self.count(style)?;
        if alone > self.limit {
            return Err(usage(format!(
                "the style text has {alone} tokens and the text encoder reads {}: shorten it ({style:?})",
                self.limit
            )));
        }
        // A longer beginning never has fewer tokens, words being tokenized apart: a binary search
        // finds the longest that fits. Should a tokenizer break that rule, the walk down mends it.
        let (mut fits, mut too_long) = (0, words.len() + 1);
        while too_long - fits > 1 {
            let middle = (fits + too_long) / 2;
            if self.count(&join(&words[..middle], style))? <= self.limit { fits = middle } else { too_long = middle }
        }
        loop {
            let prompt = join(&words[..fits], style);
            let tokens = self.count(&prompt)?;
            if tokens <= self.limit || fits == 0 {
                return Ok(Composed { prompt, tokens, limit: self.limit, dropped: words[fits..].join(" ") });
            }
            fits -= 1;
        }
    }
}

/// The words, a comma, the style.
fn join(words: &[&str], style: &str) -> String {
    let description = words.join(" ");
    if style.is_empty() {
        return description;
    }
    let description = description.trim_end_matches(|c: char| c.is_whitespace() || DANGLING.contains(&c));
    match (description, style.starts_with(',')) {
        ("", _) => style.to_string(),
        (_, true) => format!("{description}{style}"),
        (_, false) => format!("{description}, {style}"),
    }
}
