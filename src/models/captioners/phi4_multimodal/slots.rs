//! The language model with places for some texts, which the prompts of a data set take one after another.
//!
//! All slots write at one place of the cache, which moves on with each step: a prompt that joins is put before that
//! place, and what lies before it is its padding. Where the cache ends, all texts move back.

use std::cell::RefCell;

use anyhow::Result;
use tch::{Kind, Tensor};

use super::decoder::Decoder;
use super::session::prompt_mask;
use super::steps::Phi4Steps;
use crate::models::captioners::generation::{READ_TOGETHER, SlotModel};
use crate::nn::{SPARE_PLACES, Stretch};
use crate::runtime::upload;

/// Steps between two moves of all texts, at least.
const SLACK: i64 = 128;
/// Tokens that a text may go on being given past its end.
const PAST_THE_END: i64 = 16;

/// The next so many prompts, all of one length, embedded: [prompts, length, hidden].
pub type NextPrompts<'a> = dyn FnMut(usize) -> Result<Tensor> + 'a;

pub struct Slots<'a> {
    decoder: &'a Decoder,
    spare: &'a RefCell<Option<Phi4Steps>>,
    prompts: &'a mut NextPrompts<'a>,
    /// Of the prompts that are still to be read.
    lengths: &'a [i64],
    /// Of all prompts.
    longest: i64,
    /// Taken in `drop`.
    steps: Option<Phi4Steps>,
    /// Where the next token of every slot goes.
    place: i64,
    /// Of each slot: the first place that it sees, its list of rotary frequencies, whether a text is in it.
    padding: Vec<i64>,
    lists: Vec<i64>,
    taken: Vec<bool>,
}

/// Places of the cache that texts of so many tokens, prompt included, need.
pub fn places(longest: i64) -> i64 {
    longest + PAST_THE_END + SLACK
}

impl<'a> Slots<'a> {
    /// Slots for prompts of these lengths, of which `prompts` gives the next. `spare`: what an earlier call left, and where
    /// this one leaves its own.
    pub fn new(
        decoder: &'a Decoder,
        spare: &'a RefCell<Option<Phi4Steps>>,
        prompts: &'a mut NextPrompts<'a>,
        lengths: &'a [i64],
        slots: usize,
        max_new_tokens: usize,
    ) -> Result<Self> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let steps = Phi4Steps::new(decoder, spare.take(), slots as i64, places(longest + max_new_tokens as i64))?;
        Ok(Self {
            decoder,
            spare,
            prompts,
            lengths,
            longest,
            steps: Some(steps),
            place: longest,
            padding: vec![longest; slots],
            lists: vec![0; slots],
            taken: vec![false; slots],
        })
    }

    /// Tells the steps where all slots are.
    fn tell(&mut self) {
        let Some(steps) = &mut self.steps else { return };
        let lists = upload(&Tensor::from_slice(&self.lists).view([-1, 1]), self.decoder.device);
        steps.start(self.place, &self.padding, &lists);
    }

    /// Moves all texts back to where the cache begins, as far as the longest prompt leaves room.
    fn move_back(&mut self) {
        let Some(steps) = &mut self.steps else { return };
        let first = self.padding.iter().zip(&self.taken).filter(|(_, taken)| **taken).map(|(first, _)| *first).min();
        let by = first.unwrap_or(self.place).min(self.place - self.longest);
        steps.caches.iter().for_each(|cache| cache.move_back(by, self.place));
        self.place -= by;
        self.padding.iter_mut().for_each(|first| *first = (*first - by).max(0));
        self.tell();
    }
}

impl SlotModel for Slots<'_> {
    fn read(&mut self, free: &[i64]) -> Result<Tensor> {
        let Some(&length) = self.lengths.first() else { anyhow::bail!("there is no further prompt") };
        let most = free.len().min(READ_TOGETHER);
        let count = self.lengths.iter().take(most).take_while(|other| **other == length).count();
        self.lengths = &self.lengths[count..];
        if !self.taken.contains(&true) {
            self.place = self.longest;
            // Nor does an empty slot begin behind it.
            self.padding.fill(self.longest);
        }
        let rows = &free[..count];
        let limit = self.decoder.config.rope.original_max_position_embeddings;
        for slot in rows.iter().map(|slot| *slot as usize) {
            (self.padding[slot], self.lists[slot], self.taken[slot]) =
                (self.place - length, i64::from(length > limit), true);
        }
        self.tell();
        let embedded = (self.prompts)(count)?;
        let steps = self.steps.as_ref().ok_or_else(|| anyhow::anyhow!("the slots are gone"))?;
        let device = self.decoder.device;
        let column = |value: i64| Tensor::full([count as i64, 1], value, (Kind::Int64, device));
        let rotation = steps.rotation(&column(0), length, &column(i64::from(length > limit)));
        let window = self.decoder.config.sliding_window.filter(|window| *window < length);
        let mask = window.map(|window| prompt_mask(&column(0), length, Some(window)));
        let stretch = Stretch { rows: &upload(&Tensor::from_slice(rows), device), start: self.place - length };
        Ok(self.decoder.read(embedded, &rotation, mask.as_ref(), &steps.caches, Some(stretch)))
    }

    fn step(&mut self, tokens: &Tensor) -> Result<Tensor> {
        if self.place + 1 + SPARE_PLACES > self.steps.as_ref().map_or(0, Phi4Steps::capacity) {
            self.move_back();
        }
        let steps = self.steps.as_mut().ok_or_else(|| anyhow::anyhow!("the slots are gone"))?;
        let logits = steps.step(self.decoder, tokens, self.place)?;
        self.place += 1;
        Ok(logits)
    }

    fn leave(&mut self, slots: &[i64]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        for slot in slots.iter().map(|slot| *slot as usize) {
            // It sees no more than what it is given.
            (self.padding[slot], self.lists[slot], self.taken[slot]) = (self.place, 0, false);
        }
        self.tell();
        Ok(())
    }

    fn keep(&mut self, slots: &[i64]) -> Result<()> {
        let kept = |values: &[i64]| slots.iter().map(|slot| values[*slot as usize]).collect();
        (self.padding, self.lists) = (kept(&self.padding), kept(&self.lists));
        self.taken = vec![true; slots.len()];
        let rows = upload(&Tensor::from_slice(slots), self.decoder.device);
        if let Some(steps) = &mut self.steps {
            steps.reorder(&rows, self.place);
        }
        self.tell();
        Ok(())
    }

    /// Recorded steps have the size of the batch.
    fn may_shrink(&self) -> bool {
        self.steps.as_ref().is_none_or(|steps| !steps.are_captured())
    }
}

impl Drop for Slots<'_> {
    fn drop(&mut self) {
        // On the CPU memory is taken for each batch as it needs it.
        if self.decoder.device.is_cuda() {
            self.spare.replace(self.steps.take());
        }
    }
}
