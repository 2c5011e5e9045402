//! The steps of a batch of captions: one new token a row, on tensors that keep their places in memory. On
//! CUDA a step is captured once and then replayed, also by later batches of the same size.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::Networks;
use super::text_decoder::CrossAttentionCache;
use crate::nn::{KvCache, SPARE_PLACES, Slot, StepView, capacity};
use crate::runtime::{Captured, captures_are_enabled};

/// On CUDA the cache has a multiple of so many places, so that batches of about one length share it.
const CAPACITY_STEP: i64 = 64;
/// Up to so many pictures are looked at by captured work too: more keep a GPU busy as it is, and the
/// captured work would keep much memory.
const CAPTURED_PICTURES: i64 = 8;
/// Prompts of up to so many tokens are read by captured steps, one by one.
const CAPTURED_PROMPT: usize = 8;

/// A row is one text; each picture has as many rows, one after another, as the search has beams.
pub struct BlipSteps {
    pictures: i64,
    rows: i64,
    /// Rows that share the memory of a picture.
    sharers: i64,
    capacity: i64,
    own: Vec<KvCache>,
    cross: Vec<CrossAttentionCache>,
    slot: Slot,
    /// Places that are filled: where the slot is.
    length: i64,
    /// The last token of each row: [rows, 1].
    tokens: Tensor,
    /// Zeros, [rows]: all texts of a batch start at the first place.
    padding: Tensor,
    /// Where captured work finds the pictures.
    pixels: Option<Tensor>,
    looking: Captured<()>,
    stepping: Captured<Tensor>,
}

impl BlipSteps {
    /// For so many pictures with so many texts each, the longest of so many tokens.
    pub fn new(networks: &Networks, pictures: i64, copies: i64, longest: i64) -> Self {
        let (decoder, rows) = (&networks.decoder, pictures * copies);
        let device = decoder.device;
        let capacity = capacity(device, longest, decoder.positions(), CAPACITY_STEP);
        if captures_are_enabled()
            && let Some(spare) = networks.spare.take()
            && (spare.pictures, spare.rows) == (pictures, rows)
            && (capacity..=2 * capacity).contains(&spare.capacity)
        {
            return spare;
        }
        Self {
            pictures,
            rows,
            sharers: copies,
            capacity,
            own: decoder.caches(rows, capacity),
            cross: decoder.cross_attention_caches(pictures, networks.vision.tokens()),
            slot: Slot::new(device),
            length: 0,
            tokens: Tensor::zeros([rows, 1], (Kind::Int64, device)),
            padding: Tensor::zeros([rows], (Kind::Int64, device)),
            pixels: None,
            looking: Captured::default(),
            stepping: Captured::default(),
        }
    }

    /// Reads the pictures ([pictures, 3, side, side]).
    pub fn look(&mut self, networks: &Networks, pixels: &Tensor) -> Result<()> {
        let device = networks.decoder.device;
        let is_wanted = self.pictures <= CAPTURED_PICTURES && self.looking.is_wanted(device);
        if is_wanted || self.looking.is_there() {
            let place = self.pixels.get_or_insert_with(|| pixels.zeros_like());
            place.copy_(pixels);
            if is_wanted {
                let work = || {
                    networks.look(place, &self.cross);
                    Ok(())
                };
                self.looking = Captured::of("looking at pictures", device, work);
            }
        }
        if self.looking.replay()?.is_none() {
            networks.look(pixels, &self.cross);
        }
        Ok(())
    }

    /// Starts all texts with `prompt`. Scores of the next token, [rows, vocab], valid until the next step.
    pub fn read(&mut self, networks: &Networks, prompt: &[i64]) -> Result<Tensor> {
        self.go_to(0);
        if (self.are_captured() || self.may_capture(networks)) && prompt.len() <= CAPTURED_PROMPT {
            let mut scores = None;
            for id in prompt {
                let _ = self.tokens.fill_(*id);
                scores = Some(self.advance(networks)?);
            }
            return scores.context("a caption starts with at least one token");
        }
        let ids = Tensor::from_slice(prompt).to_device(networks.decoder.device).repeat([self.pictures, 1]);
        let scores = networks.decoder.read(&ids, &self.own, &self.cross);
        self.go_to(prompt.len() as i64);
        if self.rows == self.pictures {
            return Ok(scores);
        }
        let pictures = Tensor::arange(self.pictures, (Kind::Int64, networks.decoder.device));
        let pictures = pictures.repeat_interleave_self_int(self.rows / self.pictures, 0, None);
        if !networks.decoder.device.is_cuda() {
            // A text gives the same numbers with others beside it as alone only where it has a memory of its own.
            self.cross.iter_mut().for_each(|memory| memory.reorder(&pictures));
            self.sharers = 1;
        }
        Ok(scores.index_select(0, &pictures))
    }

    /// Appends `tokens` [rows]. Scores of the next, [rows, vocab], valid until the next step.
    pub fn step(&mut self, networks: &Networks, tokens: &Tensor) -> Result<Tensor> {
        self.tokens.copy_(&tokens.unsqueeze(1));
        self.advance(networks)
    }

    /// Row `i` becomes what row `rows[i]` was: of the same picture, or fewer rows because pictures left.
    pub fn reorder(&mut self, rows: &Tensor) {
        self.own.iter_mut().for_each(|cache| cache.reorder(rows, self.length));
        let count = rows.size()[0];
        if count == self.rows {
            return;
        }
        let pictures = rows.view([-1, self.sharers]).select(1, 0).divide_scalar_mode(self.sharers, "floor");
        self.cross.iter_mut().for_each(|memory| memory.reorder(&pictures));
        self.tokens = self.tokens.index_select(0, rows);
        self.padding = self.padding.index_select(0, rows);
        (self.rows, self.pictures) = (count, count / (self.rows / self.pictures));
        (self.looking, self.stepping) = (Captured::default(), Captured::default());
    }

    /// Whether the steps have the size of the batch for good.
    pub fn are_captured(&self) -> bool {
        self.stepping.is_there()
    }

    /// The next token goes to this place.
    fn go_to(&mut self, length: i64) {
        self.length = length;
        self.slot.go_to(length);
    }

    /// Whether there is room for the steps that capturing takes, and they are to be captured.
    fn may_capture(&self, networks: &Networks) -> bool {
        self.length + SPARE_PLACES <= self.capacity && self.stepping.is_wanted(networks.decoder.device)
    }

    /// Appends the tokens that stand in their place.
    fn advance(&mut self, networks: &Networks) -> Result<Tensor> {
        if self.may_capture(networks) {
            self.stepping = Captured::of("a decoding step", networks.decoder.device, || Ok(self.forward(networks)));
            // Capturing went some places ahead.
            self.slot.go_to(self.length);
        }
        let scores = match self.stepping.replay()? {
            Some(scores) => scores.shallow_clone(),
            None => {
                let scores = self.forward(networks);
                self.slot.advance_on_host();
                scores
            }
        };
        self.length += 1;
        Ok(scores)
    }

    /// One step, and what is on the device moves on to the next.
    fn forward(&self, networks: &Networks) -> Tensor {
        let view = StepView::new(&self.slot, &self.padding, false, None, self.capacity);
        let scores = networks.decoder.step(&self.tokens, &view, &self.own, &self.cross);
        self.slot.advance_on_device();
        scores
    }
}
