//! One batch on its way through the language model: its prompts, and what has been said since.

use std::cell::RefCell;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::decoder::Decoder;
use super::steps::Phi4Steps;
use crate::models::captioners::generation::StepModel;
use crate::runtime::upload;

/// Prompts of a batch, padded on the left to one length, and the texts that go on from them. A row
/// is one text; each prompt has as many rows, one after another, as the search has beams.
pub struct Session<'a> {
    decoder: &'a Decoder,
    spare: &'a RefCell<Option<Phi4Steps>>,
    /// [prompts, length, hidden]
    embedded: Tensor,
    /// Padding places of each row.
    padding: Vec<i64>,
    /// Longest text, prompt and padding included.
    longest: i64,
    steps: Option<Phi4Steps>,
    /// Places that are filled.
    length: i64,
    /// New tokens so far, [rows, n]: kept where a row may come to use the other frequencies.
    said: Option<Tensor>,
}

impl<'a> Session<'a> {
    /// `embedded`: [prompts, length, hidden]; `padding`: the places of each that come before its
    /// first token; `max_new_tokens`: at most so many will follow. `spare`: what an earlier batch left, and where this
    /// one leaves its own.
    pub fn new(
        decoder: &'a Decoder,
        spare: &'a RefCell<Option<Phi4Steps>>,
        embedded: Tensor,
        padding: Vec<i64>,
        max_new_tokens: usize,
    ) -> Result<Self> {
        let (prompts, length, _) = embedded.size3()?;
        let longest = length + max_new_tokens as i64;
        let limit = decoder.config.rope.original_max_position_embeddings;
        let may_switch = padding.iter().any(|padding| length - padding <= limit && longest - padding > limit);
        let said = may_switch.then(|| Tensor::zeros([prompts, 0], (Kind::Int64, decoder.device)));
        Ok(Self { decoder, spare, embedded, padding, longest, steps: None, length, said })
    }

    /// Reads `embedded` [prompts or rows, length, hidden] from the first place on, padding and steps
    /// being of all rows. Logits: [prompts or rows, vocabulary].
    fn read(&mut self, embedded: Tensor) -> Result<Tensor> {
        let steps = self.steps.as_mut().context("the texts have not been started")?;
        let device = self.decoder.device;
        let (prompts, length, _) = embedded.size3()?;
        self.length = length;
        let limit = self.decoder.config.rope.original_max_position_embeddings;
        let rows = self.padding.len() as i64;
        let of_rows = upload(&Tensor::from_slice(&self.padding), device).view([rows, 1]);
        let list = (length - &of_rows).gt(limit).to_kind(Kind::Int64);
        steps.start(length, &self.padding, &list);

        let of_prompts = |rows: &Tensor| rows.view([prompts, -1]).narrow(1, 0, 1);
        let padding = of_prompts(&of_rows);
        let rotation = steps.rotation(&padding, length, &of_prompts(&list));
        let is_padded = self.padding.iter().any(|padding| *padding > 0);
        let window = self.decoder.config.sliding_window.filter(|window| *window < length);
        let mask = (is_padded || window.is_some()).then(|| prompt_mask(&padding, length, window));
        Ok(self.decoder.read(embedded, &rotation, mask.as_ref(), &steps.caches, None))
    }

    /// Whether with this length some row becomes too long for the frequencies that its cache was made with.
    fn switches_at(&self, length: i64) -> bool {
        let limit = self.decoder.config.rope.original_max_position_embeddings;
        self.padding.iter().any(|padding| length - padding == limit + 1)
    }
}

/// Who sees whom, [prompts, 1, length, length] of bool. Padding ([prompts, 1] places of it) sees
/// itself, or its softmax would be over nothing.
pub(super) fn prompt_mask(padding: &Tensor, length: i64, window: Option<i64>) -> Tensor {
    let places = Tensor::arange(length, (Kind::Int64, padding.device()));
    let (query, key) = (places.view([1, 1, -1, 1]), places.view([1, 1, 1, -1]));
    let mut seen = key.le_tensor(&query).logical_and(&key.ge_tensor(&padding.view([-1, 1, 1, 1])));
    if let Some(window) = window {
        seen = seen.logical_and(&key.gt_tensor(&(&query - window)));
    }
    seen.logical_or(&key.eq_tensor(&query))
}

impl StepModel for Session<'_> {
    fn start(&mut self, copies: i64) -> Result<Tensor> {
        let prompts = self.padding.len() as i64;
        self.steps = Some(Phi4Steps::new(self.decoder, self.spare.take(), prompts * copies, self.longest)?);
        self.padding = self.padding.iter().flat_map(|padding| vec![*padding; copies as usize]).collect();
        let logits = self.read(self.embedded.shallow_clone())?;
        if copies == 1 {
            return Ok(logits);
        }
        let repeat = |x: &Tensor| x.repeat_interleave_self_int(copies, 0, None);
        self.said = self.said.as_ref().map(repeat);
        if self.said.is_some() {
            self.embedded = repeat(&self.embedded);
        }
        Ok(repeat(&logits))
    }

    fn step(&mut self, tokens: &Tensor) -> Result<Tensor> {
        if let Some(said) = &self.said {
            let said = Tensor::cat(&[said, &tokens.unsqueeze(1)], 1);
            let again = self.switches_at(self.length + 1).then(|| self.decoder.embed(&said));
            self.said = Some(said);
            if let Some(new) = again {
                // Keys made with the short factors do not fit queries made with the long ones.
                return self.read(Tensor::cat(&[&self.embedded, &new], 1));
            }
        }
        let steps = self.steps.as_mut().context("the texts have not been started")?;
        let logits = steps.step(self.decoder, tokens, self.length)?;
        self.length += 1;
        Ok(logits)
    }

    fn reorder(&mut self, rows: &Tensor) -> Result<()> {
        let steps = self.steps.as_mut().context("the texts have not been started")?;
        steps.reorder(rows, self.length);
        self.said = self.said.as_ref().map(|said| said.index_select(0, rows));
        // Rows that change places are of one prompt: only where some have left do these change.
        if rows.size()[0] as usize != self.padding.len() {
            let kept: Vec<i64> = rows.to_device(Device::Cpu).try_into()?;
            self.padding = kept.iter().map(|row| self.padding[*row as usize]).collect();
            if self.said.is_some() {
                self.embedded = self.embedded.index_select(0, rows);
            }
        }
        Ok(())
    }

    /// Recorded steps have the size of the batch.
    fn may_shrink(&self) -> bool {
        self.steps.as_ref().is_none_or(|steps| !steps.are_captured())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // On the CPU memory is taken for each batch as it needs it.
        if self.decoder.device.is_cuda() {
            self.spare.replace(self.steps.take());
        }
    }
}
