//! One batch on its way through the language model: its cache, and what of it may be seen.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::decoder::{Decoder, Slot, View};
use crate::models::generation::StepModel;
use crate::nn::{KvCache, RotaryTable};

/// On CUDA the cache has a multiple of so many places: the fused attention reads masks in such steps.
const CAPACITY_STEP: i64 = 64;

/// Prompts of a batch, padded on the left to one length, and the texts that go on from them. A row
/// is one text; each prompt has as many rows, one after another, as the search has beams.
pub struct Session<'a> {
    decoder: &'a Decoder,
    /// [prompts, length, hidden]
    embedded: Tensor,
    /// Padding places of each row, for the host and as [rows, 1, 1, 1].
    padding: Vec<i64>,
    padding_column: Tensor,
    is_padded: bool,
    /// Longest text, prompt and padding included.
    capacity: i64,
    caches: Vec<KvCache>,
    table: RotaryTable,
    /// Places of the cache that are filled.
    length: i64,
    slot: Slot,
    /// Position of the next token and list of rotary frequencies: [rows, 1] each.
    positions: Tensor,
    list: Tensor,
    /// New tokens so far, [rows, n]: kept where a row may come to use the other frequencies.
    said: Option<Tensor>,
}

impl<'a> Session<'a> {
    /// `embedded`: [prompts, length, hidden]; `padding`: the places of each that come before its
    /// first token; `max_new_tokens`: at most so many will follow.
    pub fn new(decoder: &'a Decoder, embedded: Tensor, padding: Vec<i64>, max_new_tokens: usize) -> Result<Self> {
        let (prompts, length, _) = embedded.size3()?;
        let device = decoder.device;
        let longest = length + max_new_tokens as i64;
        let table = decoder.rotary_table(longest)?;
        let capacity =
            if device.is_cuda() { (longest + CAPACITY_STEP - 1) / CAPACITY_STEP * CAPACITY_STEP } else { longest };
        let limit = decoder.config.rope.original_max_position_embeddings;
        let may_switch = padding.iter().any(|padding| length - padding <= limit && longest - padding > limit);
        let column = Tensor::zeros([prompts, 1], (Kind::Int64, device));
        Ok(Self {
            decoder,
            embedded,
            is_padded: padding.iter().any(|padding| *padding > 0),
            padding_column: column.view([prompts, 1, 1, 1]),
            padding,
            capacity,
            caches: Vec::new(),
            table,
            length,
            slot: Slot::Host(length),
            positions: column.shallow_clone(),
            list: column,
            said: may_switch.then(|| Tensor::zeros([prompts, 0], (Kind::Int64, device))),
        })
    }

    /// Reads `embedded` [rows, length, hidden] from the first place on.
    fn read(&mut self, embedded: Tensor) -> Tensor {
        let device = self.decoder.device;
        let length = embedded.size()[1];
        self.length = length;
        let rows = self.padding.len() as i64;
        let padding = Tensor::from_slice(&self.padding).to_device(device).view([rows, 1]);
        self.padding_column = padding.view([rows, 1, 1, 1]);
        let limit = self.decoder.config.rope.original_max_position_embeddings;
        self.list = (length - &padding).gt(limit).to_kind(Kind::Int64);
        self.positions = length - &padding;
        self.slot = if device.is_cuda() {
            Slot::Device(Tensor::full([1], length, (Kind::Int64, device)))
        } else {
            Slot::Host(length)
        };
        let places = Tensor::arange(length, (Kind::Int64, device));
        let rotation = self.table.at(&(&places - &padding).clamp_min(0), &self.list);
        let mask = self.prompt_mask(&places);
        self.decoder.forward(embedded, &rotation, &View::Prompt(mask.as_ref()), &mut self.caches)
    }

    /// [rows, 1, length, length] of bool; None where a token simply sees those before it. Padding
    /// sees itself, or its softmax would be over nothing.
    fn prompt_mask(&self, places: &Tensor) -> Option<Tensor> {
        let window = self.decoder.config.sliding_window.filter(|window| *window < self.length);
        if !self.is_padded && window.is_none() {
            return None;
        }
        let (query, key) = (places.view([1, 1, -1, 1]), places.view([1, 1, 1, -1]));
        let mut seen = key.le_tensor(&query).logical_and(&key.ge_tensor(&self.padding_column));
        if let Some(window) = window {
            seen = seen.logical_and(&key.gt_tensor(&(&query - window)));
        }
        Some(seen.logical_or(&key.eq_tensor(&query)))
    }

    /// What the next token sees of the first `length` places: additive, [rows, 1, 1, length]; None = all.
    fn step_mask(&self, length: i64) -> Option<Tensor> {
        let window = self.decoder.config.sliding_window.filter(|window| *window < self.capacity);
        if !self.is_padded && window.is_none() && matches!(self.slot, Slot::Host(_)) {
            return None;
        }
        let places = Tensor::arange(length, (Kind::Int64, self.decoder.device)).view([1, 1, 1, -1]);
        let mut seen = places.ge_tensor(&self.padding_column);
        let slot = match &self.slot {
            Slot::Host(place) => Tensor::from(*place),
            Slot::Device(place) => place.shallow_clone(),
        };
        seen = seen.logical_and(&places.le_tensor(&slot));
        if let Some(window) = window {
            seen = seen.logical_and(&places.gt_tensor(&(slot - window)));
        }
        let hidden = seen.logical_not();
        Some(hidden.zeros_like().to_kind(self.decoder.kind).masked_fill(&hidden, f64::NEG_INFINITY))
    }

    /// Whether with this length some row becomes too long for the frequencies that its cache was made with.
    fn switches_at(&self, length: i64) -> bool {
        let limit = self.decoder.config.rope.original_max_position_embeddings;
        self.padding.iter().any(|padding| length - padding == limit + 1)
    }

    fn advance(&mut self) {
        self.length += 1;
        let _ = self.positions.g_add_scalar_(1);
        match &mut self.slot {
            Slot::Host(place) => *place += 1,
            Slot::Device(place) => drop(place.g_add_scalar_(1)),
        }
    }
}

impl StepModel for Session<'_> {
    fn start(&mut self, copies: i64) -> Result<Tensor> {
        self.caches = self.decoder.caches(self.padding.len() as i64, self.capacity);
        let logits = self.read(self.embedded.shallow_clone());
        if copies == 1 {
            return Ok(logits);
        }
        let repeat = |x: &Tensor| x.repeat_interleave_self_int(copies, 0, None);
        self.padding = self.padding.iter().flat_map(|padding| vec![*padding; copies as usize]).collect();
        self.caches.iter_mut().for_each(|cache| cache.repeat(copies));
        for column in [&mut self.padding_column, &mut self.positions, &mut self.list] {
            *column = repeat(column);
        }
        self.said = self.said.as_ref().map(repeat);
        if self.said.is_some() {
            self.embedded = repeat(&self.embedded);
        }
        Ok(repeat(&logits))
    }

    fn step(&mut self, tokens: &Tensor) -> Result<Tensor> {
        let tokens = tokens.unsqueeze(1); // [rows, 1]
        let mut again = None;
        if let Some(said) = &self.said {
            let said = Tensor::cat(&[said, &tokens], 1);
            if self.switches_at(self.length + 1) {
                again = Some(Tensor::cat(&[&self.embedded, &self.decoder.embed(&said)], 1));
            }
            self.said = Some(said);
        }
        if let Some(embedded) = again {
            // Keys made with the short factors do not fit queries made with the long ones.
            return Ok(self.read(embedded));
        }
        let length = if self.decoder.device.is_cuda() { self.capacity } else { self.length + 1 };
        let rotation = self.table.at(&self.positions, &self.list);
        let mask = self.step_mask(length);
        let view = View::Step { slot: &self.slot, length, mask: mask.as_ref() };
        let logits = self.decoder.forward(self.decoder.embed(&tokens), &rotation, &view, &mut self.caches);
        self.advance();
        Ok(logits)
    }

    fn reorder(&mut self, rows: &Tensor) -> Result<()> {
        self.caches.iter_mut().for_each(|cache| cache.reorder(rows, self.length));
        self.said = self.said.as_ref().map(|said| said.index_select(0, rows));
        // Rows that change places are of one prompt: only where some have left do these change.
        if rows.size()[0] as usize != self.padding.len() {
            let kept: Vec<i64> = rows.to_device(Device::Cpu).try_into()?;
            self.padding = kept.iter().map(|row| self.padding[*row as usize]).collect();
            for column in [&mut self.padding_column, &mut self.positions, &mut self.list] {
                *column = column.index_select(0, rows);
            }
            if self.said.is_some() {
                self.embedded = self.embedded.index_select(0, rows);
            }
        }
        Ok(())
    }
}
