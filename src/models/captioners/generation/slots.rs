//! Greedy search over more prompts than run at once (continuous batching): the place of a text that has ended is taken
//! by the next prompt, while the others go on. Who runs beside whom follows from the texts alone, never from the clock.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::{GenerationOptions, QUESTION_INTERVAL};
use crate::runtime::upload;

/// Prompts that are read together: fewer leave the device idle, more bring nothing.
pub const READ_TOGETHER: usize = 16;

/// A decoder whose rows are taken and left one by one. A slot is such a row.
pub trait SlotModel {
    /// Reads the next prompts, in their order, into the first of the `free` slots, as many as can be read together.
    /// Logits of their next token: [prompts read, vocabulary].
    fn read(&mut self, free: &[i64]) -> Result<Tensor>;

    /// Appends one token to each slot (`[slots]`, int64, on the device); what empty ones get does not matter. Logits of
    /// the next token, [slots, vocabulary], valid until the next call.
    fn step(&mut self, tokens: &Tensor) -> Result<Tensor>;

    /// The texts of these slots have ended.
    fn leave(&mut self, slots: &[i64]) -> Result<()>;

    /// Only these slots go on, and are numbered anew in this order. No prompt is read after it.
    fn keep(&mut self, slots: &[i64]) -> Result<()>;

    /// Whether [`Self::keep`] makes steps faster.
    fn may_shrink(&self) -> bool;
}

/// The new tokens of each prompt, up to and with the end token; `longest`: at most so many for each, at least one.
pub fn generate_in_slots(
    model: &mut dyn SlotModel,
    longest: &[usize],
    slots: usize,
    device: Device,
    options: &GenerationOptions,
) -> Result<Vec<Vec<i64>>> {
    ensure!(slots > 0 || longest.is_empty(), "texts need at least one slot");
    ensure!(!longest.contains(&0), "a text has at least one token");
    let mut search = Search {
        texts: vec![Vec::new(); longest.len()],
        longest,
        running: vec![None; slots],
        tokens: Tensor::full([slots as i64], options.pad, (Kind::Int64, device)),
        next: 0,
        options,
    };
    loop {
        let has_read = search.read(model)?;
        if search.running.iter().all(Option::is_none) {
            return Ok(search.texts);
        }
        let said = search.go_on(model)?;
        let ended = search.take_in(&said, &has_read)?;
        model.leave(&ended)?;
        search.shrink(model)?;
    }
}

struct Search<'a> {
    texts: Vec<Vec<i64>>,
    longest: &'a [usize],
    /// The prompt of each slot.
    running: Vec<Option<usize>>,
    /// The newest token of each slot.
    tokens: Tensor,
    /// The prompt that is read next.
    next: usize,
    options: &'a GenerationOptions,
}

impl Search<'_> {
    fn slots_where(&self, is_running: bool) -> Vec<i64> {
        (0..).zip(&self.running).filter(|(_, prompt)| prompt.is_some() == is_running).map(|(slot, _)| slot).collect()
    }

    /// Fills the free slots once they are worth it. Whether each slot has a new prompt.
    fn read(&mut self, model: &mut dyn SlotModel) -> Result<Vec<bool>> {
        let mut has_read = vec![false; self.running.len()];
        let free = self.slots_where(false);
        let worth = READ_TOGETHER.min(self.texts.len() - self.next);
        if free.len() < worth && free.len() < self.running.len() {
            return Ok(has_read);
        }
        let mut free = free.as_slice();
        while self.next < self.texts.len() && !free.is_empty() {
            let logits = model.read(free)?;
            let (taken, rest) = free.split_at(logits.size()[0] as usize);
            let rows = upload(&Tensor::from_slice(taken), self.tokens.device());
            let _ = self.tokens.index_copy_(0, &rows, &logits.argmax(-1, false));
            for slot in taken {
                self.running[*slot as usize] = Some(self.next);
                has_read[*slot as usize] = true;
                self.next += 1;
            }
            free = rest;
        }
        Ok(has_read)
    }

    /// Some steps, until the device is asked what was said: int64 [1 + steps, slots], first what is known already.
    fn go_on(&mut self, model: &mut dyn SlotModel) -> Result<Tensor> {
        // A text that was just read has said one token, which is on the device.
        let left = |prompt: &usize| self.longest[*prompt] - self.texts[*prompt].len().max(1);
        let most_left = self.running.iter().flatten().map(left).max().unwrap_or(0);
        let interval = if self.tokens.device().is_cuda() { QUESTION_INTERVAL } else { 1 };
        let steps = interval.min(most_left);
        let mut said = vec![self.tokens.copy()];
        for _ in 0..steps {
            self.tokens = model.step(&self.tokens)?.argmax(-1, false);
            said.push(self.tokens.shallow_clone());
        }
        Ok(Tensor::stack(&said, 0))
    }

    /// Waits for the device. The slots whose texts have ended; what they said past their end is left out.
    fn take_in(&mut self, said: &Tensor, has_read: &[bool]) -> Result<Vec<i64>> {
        let columns: Vec<Vec<i64>> = said.transpose(0, 1).to_device(Device::Cpu).try_into()?;
        let mut ended = Vec::new();
        for (slot, said) in columns.iter().enumerate() {
            let Some(prompt) = self.running[slot] else { continue };
            let text = &mut self.texts[prompt];
            for token in &said[usize::from(!has_read[slot])..] {
                text.push(*token);
                if self.options.eos.contains(token) || text.len() == self.longest[prompt] {
                    self.running[slot] = None;
                    ended.push(slot as i64);
                    break;
                }
            }
        }
        Ok(ended)
    }

    fn shrink(&mut self, model: &mut dyn SlotModel) -> Result<()> {
        let kept = self.slots_where(true);
        let is_worth_it = 4 * kept.len() <= 3 * self.running.len();
        if self.next < self.texts.len() || kept.is_empty() || !is_worth_it || !model.may_shrink() {
            return Ok(());
        }
        model.keep(&kept)?;
        self.running.retain(Option::is_some);
        self.tokens = self.tokens.index_select(0, &upload(&Tensor::from_slice(&kept), self.tokens.device()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prompt `p` says p, p + 1, p + 2 …; the end is 100.
    struct Counting {
        prompts: Vec<i64>,
        next: usize,
        together: usize,
        /// What each slot said last; None where it is empty.
        last: Vec<Option<i64>>,
        most_at_once: usize,
    }

    fn logits(tokens: impl Iterator<Item = i64>) -> Tensor {
        let rows: Vec<Tensor> = tokens.map(|token| Tensor::from(token.min(100)).onehot(101)).collect();
        Tensor::stack(&rows, 0)
    }

    impl SlotModel for Counting {
        fn read(&mut self, free: &[i64]) -> Result<Tensor> {
            let count = self.together.min(free.len()).min(self.prompts.len() - self.next);
            let read = self.prompts[self.next..self.next + count].to_vec();
            for (slot, prompt) in free.iter().zip(&read) {
                assert!(self.last[*slot as usize].replace(*prompt).is_none(), "slot {slot} is taken");
            }
            self.next += count;
            self.most_at_once = self.most_at_once.max(self.last.iter().flatten().count());
            Ok(logits(read.into_iter()))
        }

        fn step(&mut self, tokens: &Tensor) -> Result<Tensor> {
            let tokens: Vec<i64> = tokens.try_into()?;
            for (last, token) in self.last.iter_mut().zip(&tokens) {
                if let Some(last) = last {
                    assert_eq!(*last, *token);
                    *last += 1;
                }
            }
            Ok(logits(self.last.iter().map(|last| last.unwrap_or(0))))
        }

        fn leave(&mut self, slots: &[i64]) -> Result<()> {
            slots.iter().for_each(|slot| self.last[*slot as usize] = None);
            Ok(())
        }

        fn keep(&mut self, slots: &[i64]) -> Result<()> {
            self.last = slots.iter().map(|slot| self.last[*slot as usize]).collect();
            Ok(())
        }

        fn may_shrink(&self) -> bool {
            true
        }
    }

    #[test]
    fn every_text_is_whole_whatever_the_slots() {
        let prompts: Vec<i64> = (0..50).map(|i| 99 - (i * 37) % 60).collect();
        for (slots, together, longest) in [(1, 1, 100), (3, 2, 100), (16, 16, 7), (20, 5, 100), (50, 64, 30)] {
            let mut model =
                Counting { prompts: prompts.clone(), next: 0, together, last: vec![None; slots], most_at_once: 0 };
            let options = GenerationOptions { eos: vec![100], ..Default::default() };
            let longest: Vec<usize> = (0..prompts.len()).map(|at| 1 + at % longest).collect();
            let texts = generate_in_slots(&mut model, &longest, slots, Device::Cpu, &options).unwrap();
            for ((prompt, text), longest) in prompts.iter().zip(&texts).zip(longest) {
                let expected: Vec<i64> = (*prompt..=100).take(longest).collect();
                assert_eq!(*text, expected, "{slots} slots");
            }
            assert_eq!(model.most_at_once, slots);
        }
        let mut model = Counting { prompts: vec![], next: 0, together: 1, last: vec![], most_at_once: 0 };
        let none = generate_in_slots(&mut model, &[], 0, Device::Cpu, &GenerationOptions::default()).unwrap();
        assert!(none.is_empty());
    }
}
