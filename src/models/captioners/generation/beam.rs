//! Beam search as in transformers' `_beam_search`: the best candidates over all beams of a prompt,
//! finished texts kept apart with their length-normalised scores.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::processors::Processors;
use super::{Compaction, EarlyStopping, GenerationOptions, Next, Prompts, StepModel, eos_tensor, is_time_to_ask};

/// Worse than any score.
const HOPELESS: f64 = -1e9;

/// The state of all beams of the prompts that still run. Texts are whole, with the prompt: [prompts, beams, prompt + new].
struct Beams<'a> {
    options: &'a GenerationOptions,
    prompts: i64,
    beams: i64,
    prompt_length: i64,
    eos: Tensor,
    /// Texts that still grow, and their summed log probabilities [prompts, beams].
    running: Tensor,
    running_scores: Tensor,
    /// The best finished texts, their normalised scores, and which places are taken.
    finished: Tensor,
    finished_scores: Tensor,
    is_finished: Tensor,
    /// Whether a prompt's running beams may still beat its finished ones: [prompts, 1].
    may_improve: Tensor,
}

/// The best text of each prompt: [prompts, max_new_tokens].
pub(super) fn search(model: &mut dyn StepModel, prompts: &Prompts, options: &GenerationOptions) -> Result<Tensor> {
    let mut beams = Beams::new(prompts, options)?;
    let device = prompts.ids.device();
    let mut compaction = Compaction::new(&beams.best());
    let mut processors = Processors::new(prompts, options, beams.beams);
    let mut logits = model.start(beams.beams)?;
    for new in 0..options.max_new_tokens {
        let length = beams.prompt_length + new as i64;
        let texts = beams.running.narrow(2, 0, length).reshape([-1, length]);
        let scores = processors.apply(logits.to_kind(Kind::Float).log_softmax(-1, Kind::Float), &texts, new);
        let (mut parents, mut tokens) = beams.advance(&scores, new);
        if new + 1 == options.max_new_tokens {
            break;
        }
        if is_time_to_ask(device, new) {
            match compaction.ask(&beams.goes_on(), &beams.best(), model.may_shrink())? {
                Next::End => break,
                Next::All => {}
                Next::Only(kept) => {
                    let rows = beams.keep(&kept);
                    (parents, tokens) = (parents.index_select(0, &rows), tokens.index_select(0, &rows));
                    processors.keep(&rows);
                }
            }
        }
        model.reorder(&parents)?;
        logits = model.step(&tokens)?;
    }
    Ok(compaction.texts(&beams.best()).narrow(1, beams.prompt_length, options.max_new_tokens as i64))
}

impl<'a> Beams<'a> {
    fn new(prompts: &Prompts, options: &'a GenerationOptions) -> Result<Self> {
        let (count, prompt_length) = prompts.ids.size2()?;
        let beams = options.num_beams as i64;
        let device = prompts.ids.device();
        let total = prompt_length + options.max_new_tokens as i64;
        let running = Tensor::full([count, beams, total], options.pad, (Kind::Int64, device));
        running.narrow(2, 0, prompt_length).copy_(&prompts.ids.unsqueeze(1));
        let running_scores = Tensor::zeros([count, beams], (Kind::Float, device));
        // All beams start equal: only the first may choose, or they would all choose the same.
        let _ = running_scores.narrow(1, 1, beams - 1).fill_(HOPELESS);
        Ok(Self {
            options,
            prompts: count,
            beams,
            prompt_length,
            eos: eos_tensor(options, device),
            finished: running.copy(),
            running,
            running_scores,
            finished_scores: Tensor::full([count, beams], HOPELESS, (Kind::Float, device)),
            is_finished: Tensor::zeros([count, beams], (Kind::Bool, device)),
            may_improve: Tensor::ones([count, 1], (Kind::Bool, device)),
        })
    }

    /// Takes the log probabilities [rows, vocabulary] of token number `new`. Gives the row that each
    /// new row goes on from, and its token: both [rows].
    fn advance(&mut self, scores: &Tensor, new: usize) -> (Tensor, Tensor) {
        let vocabulary = scores.size()[1];
        let kept = (1 + self.options.eos.len() as i64).max(2) * self.beams;
        let total = scores.view([self.prompts, self.beams, vocabulary]) + self.running_scores.unsqueeze(2);
        let (scores, places) = total.view([self.prompts, -1]).topk(kept, 1, true, true); // [prompts, kept]
        let parents = places.divide_scalar_mode(vocabulary, "floor");
        let tokens = places.remainder(vocabulary);
        let texts = gather(&self.running, &parents);
        texts.select(2, self.prompt_length + new as i64).copy_(&tokens);

        let last = new + 1 == self.options.max_new_tokens;
        let ends =
            if last { tokens.ones_like().to_kind(Kind::Bool) } else { Tensor::isin(&tokens, &self.eos, false, false) };
        let still = &scores + ends.to_kind(Kind::Float) * HOPELESS;
        let best = still.topk(self.beams, 1, true, true).1;
        self.keep_finished(&texts, &scores, &ends, new);
        self.running = gather(&texts, &best);
        self.running_scores = still.gather(1, &best, false);
        self.look_ahead(new + 1);

        let first_rows = Tensor::arange(self.prompts, (Kind::Int64, places.device())).unsqueeze(1) * self.beams;
        let parents = parents.gather(1, &best, false) + first_rows;
        (parents.view([-1]), tokens.gather(1, &best, false).view([-1]))
    }

    /// Of the candidates, those that just ended compete with the texts finished before.
    fn keep_finished(&mut self, texts: &Tensor, scores: &Tensor, ends: &Tensor, new: usize) {
        let kept = scores.size()[1];
        let places = Tensor::arange(kept, (Kind::Int64, scores.device()));
        let ended = ends.logical_and(&places.lt(self.beams)); // only the first `beams` may finish
        let hopeless = |condition: &Tensor| condition.to_kind(Kind::Float) * HOPELESS;
        let mut scores = scores / ((new + 1) as f64).powf(self.options.length_penalty);
        if self.options.early_stopping == EarlyStopping::WhenFull {
            scores += hopeless(&self.is_finished.all_dim(1, true));
        }
        scores += hopeless(&self.may_improve.logical_not());
        scores += hopeless(&ended.logical_not());

        let all_scores = Tensor::cat(&[&self.finished_scores, &scores], 1);
        let best = all_scores.topk(self.beams, 1, true, true).1;
        self.finished = gather(&Tensor::cat(&[&self.finished, texts], 1), &best);
        self.finished_scores = all_scores.gather(1, &best, false);
        self.is_finished = Tensor::cat(&[&self.is_finished, &ended], 1).gather(1, &best, false);
    }

    /// Whether the best running beam of each prompt may still win, after `length` new tokens.
    fn look_ahead(&mut self, length: usize) {
        let penalty = self.options.length_penalty;
        let hoped_length = match self.options.early_stopping {
            EarlyStopping::Never if penalty > 0.0 => self.options.max_new_tokens,
            _ => length,
        };
        let hoped = self.running_scores.narrow(1, 0, 1) / (hoped_length as f64).powf(penalty);
        let worst = self.finished_scores.amin([1].as_slice(), true);
        let worst = worst.where_self(&self.is_finished, &Tensor::from(HOPELESS as f32).to_device(worst.device()));
        self.may_improve = self.may_improve.logical_and(&hoped.gt_tensor(&worst).any_dim(1, true));
    }

    /// Whether anything a prompt's beams find can still count: bool [prompts].
    fn goes_on(&self) -> Tensor {
        let improvement = self.may_improve.squeeze_dim(1);
        if self.options.early_stopping == EarlyStopping::WhenFull {
            return improvement.logical_and(&self.is_finished.all_dim(1, false).logical_not());
        }
        improvement
    }

    /// The best finished text of each prompt: [prompts, length].
    fn best(&self) -> Tensor {
        self.finished.select(1, 0)
    }

    /// Only these prompts go on (int64). Gives the rows that are theirs.
    fn keep(&mut self, prompts: &Tensor) -> Tensor {
        for state in [
            &mut self.running,
            &mut self.running_scores,
            &mut self.finished,
            &mut self.finished_scores,
            &mut self.is_finished,
            &mut self.may_improve,
        ] {
            *state = state.index_select(0, prompts);
        }
        self.prompts = prompts.size()[0];
        let beams = Tensor::arange(self.beams, (Kind::Int64, prompts.device()));
        (prompts.unsqueeze(1) * self.beams + beams).view([-1])
    }
}

/// Texts [prompts, n, length] by place [prompts, m] → [prompts, m, length].
fn gather(texts: &Tensor, places: &Tensor) -> Tensor {
    let (prompts, kept) = (places.size()[0], places.size()[1]);
    let length = texts.size()[2];
    texts.gather(1, &places.unsqueeze(2).expand([prompts, kept, length], false), false)
}
