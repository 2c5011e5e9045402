//! Rules that change the scores of the next token, in the order in which transformers applies them:
//! repetition penalty, n-grams, shortest length.

use tch::{Kind, Tensor};

use super::{GenerationOptions, Prompts, eos_tensor};

/// The rules of one run.
#[derive(Debug)]
pub(super) struct Processors {
    repetition_penalty: f64,
    ngram: i64,
    /// First real token of each row, [rows, 1]; None where nothing is padded.
    first: Option<Tensor>,
    /// New tokens before which the end is impossible: [rows, 1], and the largest of them.
    shortest: Tensor,
    largest_shortest: usize,
    eos: Tensor,
}

impl Processors {
    pub(super) fn new(prompts: &Prompts, options: &GenerationOptions, copies: i64) -> Self {
        let device = prompts.ids.device();
        let length = prompts.ids.size().get(1).copied().unwrap_or(0);
        let shortest: Vec<i64> = prompts
            .padding
            .iter()
            .map(|padding| (options.min_length as i64 - (length - padding)).max(options.min_new_tokens as i64).max(0))
            .collect();
        let column = |values: &[i64]| {
            Tensor::from_slice(values).to_device(device).repeat_interleave_self_int(copies, 0, None).unsqueeze(1)
        };
        let is_padded = prompts.padding.iter().any(|padding| *padding > 0);
        Self {
            repetition_penalty: options.repetition_penalty,
            ngram: options.no_repeat_ngram_size as i64,
            first: is_padded.then(|| column(&prompts.padding)),
            largest_shortest: if options.eos.is_empty() {
                0
            } else {
                shortest.iter().copied().max().unwrap_or(0) as usize
            },
            shortest: column(&shortest),
            eos: eos_tensor(options, device),
        }
    }

    /// Only these rows go on (int64).
    pub(super) fn keep(&mut self, rows: &Tensor) {
        self.shortest = self.shortest.index_select(0, rows);
        self.first = self.first.as_ref().map(|first| first.index_select(0, rows));
    }

    /// `scores` of the next token [rows, vocabulary] after `texts` [rows, length], of which `new`
    /// tokens are new. The result is float32 where a rule applies.
    pub(super) fn apply(&mut self, scores: Tensor, texts: &Tensor, new: usize) -> Tensor {
        if self.repetition_penalty == 1.0 && self.ngram == 0 && new >= self.largest_shortest {
            return scores;
        }
        let mut scores = scores.to_kind(Kind::Float);
        if self.repetition_penalty != 1.0 {
            scores = self.penalise_repetition(scores, texts);
        }
        if self.ngram > 0 {
            scores = self.ban_ngrams(scores, texts);
        }
        if new < self.largest_shortest {
            let too_early = self.shortest.gt(new as i64);
            let at_end = scores.index_select(1, &self.eos).masked_fill(&too_early, f64::NEG_INFINITY);
            scores = scores.index_copy(1, &self.eos, &at_end);
        }
        scores
    }

    /// Tokens that are in the text already lose: a positive score is divided, a negative one multiplied.
    fn penalise_repetition(&self, scores: Tensor, texts: &Tensor) -> Tensor {
        let texts = match &self.first {
            // Padding is replaced with the last token, which is there anyway.
            Some(first) => {
                let length = texts.size()[1];
                let padding = Tensor::arange(length, (Kind::Int64, texts.device())).less_tensor(first);
                texts.where_self(&padding.logical_not(), &texts.narrow(1, length - 1, 1))
            }
            None => texts.shallow_clone(),
        };
        let now = scores.gather(1, &texts, false);
        let less = (&now * self.repetition_penalty).where_self(&now.lt(0.0), &(&now / self.repetition_penalty));
        scores.scatter(1, &texts, &less)
    }

    /// Tokens that would complete an n-gram for the second time become impossible.
    fn ban_ngrams(&self, scores: Tensor, texts: &Tensor) -> Tensor {
        let length = texts.size()[1];
        if length < self.ngram {
            return scores;
        }
        let before = self.ngram - 1;
        let windows = texts.unfold(1, self.ngram, 1); // [rows, windows, n]
        let (heads, tails) = (windows.narrow(2, 0, before), windows.select(2, before));
        let last = texts.narrow(1, length - before, before).unsqueeze(1);
        let mut same = heads.eq_tensor(&last).all_dim(2, false); // [rows, windows]
        if let Some(first) = &self.first {
            let start = Tensor::arange(length - before, (Kind::Int64, texts.device()));
            same = same.logical_and(&start.ge_tensor(first));
        }
        let banned = scores.zeros_like().scatter_add(1, &tails, &same.to_kind(Kind::Float));
        scores.masked_fill(&banned.gt(0.0), f64::NEG_INFINITY)
    }
}
