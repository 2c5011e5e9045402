//! Keys and values of the tokens read so far, in memory that is taken once.

use tch::{Device, Kind, Tensor};

/// The cache of one layer: [rows, kv_heads, capacity, head_dim] for keys and for values.
#[derive(Debug)]
pub struct KvCache {
    keys: Tensor,
    values: Tensor,
    /// For kernels that count their blocks for each row and head: zeros [rows, kv_heads] of int32.
    arrivals: Tensor,
}

/// The places from `start` on of some rows: where prompts go that are read while others run.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// The row of each prompt, int64 `[prompts]`, all different.
    pub rows: &'a Tensor,
    pub start: i64,
}

impl KvCache {
    /// Takes the memory, zeroed: what attention masks must still be finite.
    pub fn new(rows: i64, kv_heads: i64, capacity: i64, head_dim: i64, kind: Kind, device: Device) -> Self {
        let new = || Tensor::zeros([rows, kv_heads, capacity, head_dim], (kind, device));
        Self { keys: new(), values: new(), arrivals: Tensor::zeros([rows, kv_heads], (Kind::Int, device)) }
    }

    /// Writes tokens to the first places. `keys`, `values`: [prompts, kv_heads, tokens, head_dim], each
    /// prompt for as many rows, one after another, as there are.
    pub fn fill(&self, keys: &Tensor, values: &Tensor) {
        let (prompts, tokens) = (keys.size()[0], keys.size()[2]);
        for (place, new) in [(&self.keys, keys), (&self.values, values)] {
            let rows_of_prompts = place.unflatten(0, [prompts, -1]);
            rows_of_prompts.narrow(3, 0, tokens).copy_(&new.unsqueeze(1));
        }
    }

    /// Writes tokens to the places of a stretch of rows. `keys`, `values`: [prompts, kv_heads, tokens, head_dim].
    pub fn fill_stretch(&self, stretch: Stretch, keys: &Tensor, values: &Tensor) {
        for (place, new) in [(&self.keys, keys), (&self.values, values)] {
            let _ = place.narrow(2, stretch.start, new.size()[2]).index_copy_(0, stretch.rows, new);
        }
    }

    /// What lies at the places from `by` to `end` moves to the first ones.
    pub fn move_back(&self, by: i64, end: i64) {
        for tensor in [&self.keys, &self.values] {
            // The two overlap.
            let moved = tensor.narrow(2, by, end - by).copy();
            tensor.narrow(2, 0, end - by).copy_(&moved);
        }
    }

    /// Writes tokens to the places from `start` on. `keys`, `values`: [rows, kv_heads, tokens, head_dim].
    pub fn write(&self, start: i64, keys: &Tensor, values: &Tensor) {
        let tokens = keys.size()[2];
        self.keys.narrow(2, start, tokens).copy_(keys);
        self.values.narrow(2, start, tokens).copy_(values);
    }

    /// Writes one token to the place that `slot` (`[1]`, int64) names: nothing of it is known to the host.
    pub fn write_at(&self, slot: &Tensor, keys: &Tensor, values: &Tensor) {
        let _ = self.keys.shallow_clone().index_copy_(2, slot, keys);
        let _ = self.values.shallow_clone().index_copy_(2, slot, values);
    }

    /// The first `length` places: [rows, kv_heads, length, head_dim] of keys and values.
    pub fn filled(&self, length: i64) -> (Tensor, Tensor) {
        (self.keys.narrow(2, 0, length), self.values.narrow(2, 0, length))
    }

    /// All places, filled or not.
    pub fn whole(&self) -> (&Tensor, &Tensor) {
        (&self.keys, &self.values)
    }

    pub(super) fn arrivals(&self) -> &Tensor {
        &self.arrivals
    }

    /// Row `i` becomes what row `rows[i]` was, as far as its first `length` places. Where `rows` are
    /// fewer than there were, the rest of the memory is given back.
    pub fn reorder(&mut self, rows: &Tensor, length: i64) {
        for tensor in [&mut self.keys, &mut self.values] {
            if rows.size()[0] != tensor.size()[0] {
                *tensor = tensor.index_select(0, rows);
                continue;
            }
            let mut filled = tensor.narrow(2, 0, length);
            let reordered = filled.index_select(0, rows);
            filled.copy_(&reordered);
        }
    }
}
