//! The steps of a batch: one new token a row, on tensors that keep their places in memory. On CUDA a
//! step is captured once and then replayed, also by later batches of the same size.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::decoder::Decoder;
use crate::nn::{KvCache, RotaryTable, Rotation, SPARE_PLACES, Slot, StepView, capacity};
use crate::runtime::{Captured, upload};

/// On CUDA the cache has a multiple of so many places, so that batches of about one length share it.
const CAPACITY_STEP: i64 = 256;

pub struct Phi4Steps {
    rows: i64,
    capacity: i64,
    pub caches: Vec<KvCache>,
    table: RotaryTable,
    slot: Slot,
    /// Of each row: the last token, its position, its list of rotary frequencies [rows, 1], and the
    /// first place that it sees [rows].
    tokens: Tensor,
    positions: Tensor,
    list: Tensor,
    padding: Tensor,
    is_padded: bool,
    captured: Captured<Tensor>,
}

impl Phi4Steps {
    /// For so many rows, the longest text (prompt and padding included) of so many tokens. `spare`: those of an earlier
    /// batch, taken over where they are of the same size.
    pub fn new(decoder: &Decoder, spare: Option<Self>, rows: i64, longest: i64) -> Result<Self> {
        let device = decoder.device;
        let most = decoder.config.max_position_embeddings;
        let capacity = capacity(device, longest, most, CAPACITY_STEP);
        if let Some(spare) = spare
            && spare.rows == rows
            && (capacity..=2 * capacity).contains(&spare.capacity)
        {
            return Ok(spare);
        }
        let column = || Tensor::zeros([rows, 1], (Kind::Int64, device));
        Ok(Self {
            rows,
            capacity,
            caches: decoder.caches(rows, capacity),
            table: decoder.rotary_table(capacity)?,
            slot: Slot::new(device),
            tokens: column(),
            positions: column(),
            list: column(),
            padding: column().squeeze_dim(1),
            is_padded: false,
            captured: Captured::default(),
        })
    }

    /// After prompts of `length` tokens, each with its padding; `list`: [rows, 1].
    pub fn start(&mut self, length: i64, padding: &[i64], list: &Tensor) {
        self.padding.copy_(&upload(&Tensor::from_slice(padding), self.padding.device()));
        self.is_padded = padding.iter().any(|padding| *padding > 0);
        self.list.copy_(list);
        self.go_to(length);
    }

    /// The next token goes to this place.
    fn go_to(&mut self, length: i64) {
        self.positions.copy_(&(length - &self.padding).unsqueeze(1));
        self.slot.go_to(length);
    }

    /// The rotation of places 0..`length` of rows with this padding.
    pub fn rotation(&self, padding: &Tensor, length: i64, list: &Tensor) -> Rotation {
        let places = Tensor::arange(length, (Kind::Int64, padding.device()));
        self.table.at(&(places - padding).clamp_min(0), list)
    }

    /// Appends `tokens` [rows] at place `length`; logits of the next, valid until the next step.
    pub fn step(&mut self, decoder: &Decoder, tokens: &Tensor, length: i64) -> Result<Tensor> {
        self.tokens.copy_(&tokens.unsqueeze(1));
        if length + SPARE_PLACES <= self.capacity && self.captured.is_wanted(decoder.device) {
            self.captured = Captured::of("a decoding step", decoder.device, || Ok(self.forward(decoder)));
            // Capturing went some places ahead.
            self.go_to(length);
        }
        if let Some(logits) = self.captured.replay()? {
            return Ok(logits.shallow_clone());
        }
        let logits = self.forward(decoder);
        self.slot.advance_on_host();
        Ok(logits)
    }

    pub fn rows(&self) -> i64 {
        self.rows
    }

    /// Places of the caches.
    pub fn capacity(&self) -> i64 {
        self.capacity
    }

    pub fn are_captured(&self) -> bool {
        self.captured.is_there()
    }

    /// Row `i` becomes what row `rows[i]` was, with `length` places filled; there may be fewer than before.
    pub fn reorder(&mut self, rows: &Tensor, length: i64) {
        self.caches.iter_mut().for_each(|cache| cache.reorder(rows, length));
        if rows.size()[0] == self.rows {
            // They are of one prompt each: padding and positions stay.
            return;
        }
        self.rows = rows.size()[0];
        for column in [&mut self.tokens, &mut self.positions, &mut self.list, &mut self.padding] {
            *column = column.index_select(0, rows);
        }
        self.captured = Captured::default();
    }

    /// One step, and what is on the device moves on to the next.
    fn forward(&self, decoder: &Decoder) -> Tensor {
        let window = decoder.config.sliding_window;
        let view = StepView::new(&self.slot, &self.padding, self.is_padded, window, self.capacity);
        let rotation = self.table.at(&self.positions, &self.list);
        let logits = decoder.step(decoder.embed(&self.tokens), &rotation, &view, &self.caches);
        let _ = self.positions.shallow_clone().g_add_scalar_(1);
        self.slot.advance_on_device();
        logits
    }
}
