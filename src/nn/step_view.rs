//! What one new token a row sees of the places of a [`KvCache`], and where it goes itself. On CUDA all of
//! this is told by tensors that keep their places in memory, so that a step can be recorded.

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use super::KvCache;

/// Places past the text that recording a step may write to.
pub const SPARE_PLACES: i64 = 4;

/// Where the next token goes: as the host knows it, or as the device does.
#[derive(Debug)]
pub enum Slot {
    Host(i64),
    /// `[1]` of int64
    Device(Tensor),
}

impl Slot {
    /// The first place. On CUDA the device knows it.
    pub fn new(device: Device) -> Self {
        match device.is_cuda() {
            true => Self::Device(Tensor::zeros([1], (Kind::Int64, device))),
            false => Self::Host(0),
        }
    }

    pub fn go_to(&mut self, place: i64) {
        match self {
            Self::Host(slot) => *slot = place,
            Self::Device(slot) => drop(slot.fill_(place)),
        }
    }

    /// On the device, where it is known there: this is part of what a step records.
    pub fn advance_on_device(&self) {
        if let Self::Device(slot) = self {
            let _ = slot.shallow_clone().g_add_scalar_(1);
        }
    }

    /// On the host, where it is known there.
    pub fn advance_on_host(&mut self) {
        if let Self::Host(slot) = self {
            *slot += 1;
        }
    }
}

/// Places that a cache needs for texts of up to `longest` tokens, the model knowing `most` positions. On
/// CUDA it is a multiple of `step`, so that batches of about one length share it, with room for recording.
pub fn capacity(device: Device, longest: i64, most: i64, step: i64) -> i64 {
    match device.is_cuda() {
        true => ((longest + SPARE_PLACES + step - 1) / step * step).min(most.max(longest)),
        false => longest,
    }
}

/// What one new token a row sees.
pub struct StepView<'a> {
    pub slot: &'a Slot,
    /// First place that each row sees: `[rows]`.
    pub padding: &'a Tensor,
    pub window: Option<i64>,
    /// Places of the cache that are looked at.
    length: i64,
    /// Which of them are hidden, additive [rows, 1, 1, length]; None = none. Computed when first needed.
    mask: OnceCell<Option<Tensor>>,
}

impl<'a> StepView<'a> {
    /// Of caches with so many places; a `window` that is not smaller than that is none. `is_padded`: whether
    /// any padding is not zero.
    pub fn new(slot: &'a Slot, padding: &'a Tensor, is_padded: bool, window: Option<i64>, capacity: i64) -> Self {
        let window = window.filter(|window| *window < capacity);
        let (length, mask) = match slot {
            Slot::Host(place) => (place + 1, OnceCell::new()),
            Slot::Device(_) => (capacity, OnceCell::new()),
        };
        if matches!(slot, Slot::Host(_)) && !is_padded && window.is_none() {
            // Every place that is filled may be seen.
            let _ = mask.set(None);
        }
        Self { slot, padding, window, length, mask }
    }

    /// Puts the new token's `keys` and `values` [rows, kv_heads, 1, head_dim] into the cache. Those of all
    /// places that are looked at: [rows, kv_heads, length, head_dim] each.
    pub fn append(&self, cache: &KvCache, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        match self.slot {
            Slot::Host(place) => cache.write(*place, keys, values),
            Slot::Device(place) => cache.write_at(place, keys, values),
        }
        cache.filled(self.length)
    }

    /// For attention to all places that are looked at.
    pub fn mask(&self, kind: Kind) -> Option<&Tensor> {
        self.mask.get_or_init(|| Some(self.make_mask(kind))).as_ref()
    }

    fn make_mask(&self, kind: Kind) -> Tensor {
        let places = Tensor::arange(self.length, (Kind::Int64, self.padding.device())).view([1, 1, 1, -1]);
        let mut seen = places.ge_tensor(&self.padding.view([-1, 1, 1, 1]));
        let last = match self.slot {
            Slot::Host(place) => Tensor::from(*place),
            Slot::Device(place) => place.shallow_clone(),
        };
        seen = seen.logical_and(&places.le_tensor(&last));
        if let Some(window) = self.window {
            seen = seen.logical_and(&places.gt_tensor(&(last - window)));
        }
        let hidden = seen.logical_not();
        hidden.zeros_like().to_kind(kind).masked_fill(&hidden, f64::NEG_INFINITY)
    }
}
