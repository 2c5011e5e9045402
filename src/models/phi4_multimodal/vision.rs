//! The SigLIP tower over crops, with NaViT position ids: a crop that the picture fills only in part
//! spreads the whole range of positions over that part, and its padding is never attended to.
//! Source: `Phi4MultimodalVisionModel` in transformers' `modeling_phi4_multimodal.py`.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::config::{Layout, VisionConfig};
use crate::checkpoints::Weights;
use crate::nn::{Activation, Conv2d, Embedding, LayerNorm, Linear, attention, join_heads, split_heads};

/// Crops that go through the tower together: bounds the memory of a layer, and is enough to fill a device.
const CROPS_AT_ONCE: i64 = 32;

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: i64,
}

impl Attention {
    fn new(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        let linear = |name| Linear::new(&weights.at(name), config.hidden_size, config.hidden_size);
        Ok(Self {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            out_proj: linear("out_proj")?,
            heads: config.num_attention_heads,
        })
    }

    fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Tensor {
        let heads = |projection: &Linear| split_heads(&projection.forward(x), self.heads);
        let mixed = attention(&heads(&self.q_proj), &heads(&self.k_proj), &heads(&self.v_proj), mask);
        self.out_proj.forward(&join_heads(&mixed))
    }
}

struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Mlp {
    fn new(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        Ok(Self {
            fc1: Linear::new(&weights.at("fc1"), config.hidden_size, config.intermediate_size)?,
            fc2: Linear::new(&weights.at("fc2"), config.intermediate_size, config.hidden_size)?,
            activation: config.hidden_act,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.fc2.forward(&self.activation.apply(&self.fc1.forward(x)))
    }
}

struct Layer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

impl Layer {
    fn new(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        let norm = |name| LayerNorm::new(&weights.at(name), config.hidden_size, config.layer_norm_eps);
        Ok(Self {
            layer_norm1: norm("layer_norm1")?,
            self_attn: Attention::new(&weights.at("self_attn"), config)?,
            layer_norm2: norm("layer_norm2")?,
            mlp: Mlp::new(&weights.at("mlp"), config)?,
        })
    }

    fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Tensor {
        let x = x + self.self_attn.forward(&self.layer_norm1.forward(x), mask);
        &x + self.mlp.forward(&self.layer_norm2.forward(&x))
    }
}

/// How many rows and columns of a crop's patches belong to the picture, from the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Valid {
    pub rows: i64,
    pub columns: i64,
}

/// The tower, without the layers above the feature that the model uses.
pub struct VisionTower {
    patch_embedding: Conv2d,
    position_embedding: Embedding,
    layers: Vec<Layer>,
    grid: i64,
    layout: Layout,
    device: Device,
    kind: Kind,
}

impl VisionTower {
    pub fn new(weights: &Weights, config: &VisionConfig, layout: Layout) -> Result<Self> {
        let embeddings = weights.at("embeddings");
        let layers = weights.at("encoder").at("layers");
        let used = config.used_layers();
        (used..config.num_hidden_layers).for_each(|unused| layers.at(unused).ignore());
        weights.at("post_layernorm").ignore();
        weights.at("head").ignore();
        let (size, patch, grid) = (config.hidden_size, config.patch_size, config.grid());
        Ok(Self {
            patch_embedding: Conv2d::new(
                &embeddings.at("patch_embedding"),
                config.num_channels,
                size,
                patch,
                patch,
                0,
            )?,
            position_embedding: Embedding::new(&embeddings.at("position_embedding"), grid * grid, size)?,
            layers: (0..used).map(|i| Layer::new(&layers.at(i), config)).collect::<Result<_>>()?,
            grid,
            layout,
            device: weights.device(),
            kind: weights.kind(),
        })
    }

    /// Pixels [crops, 3, size, size] in float32 on any device, and the filled part of each crop
    /// → features [crops, patches, hidden].
    pub fn forward(&self, pixels: &Tensor, valid: &[Valid]) -> Tensor {
        let parts: Vec<Tensor> = pixels
            .split(CROPS_AT_ONCE, 0)
            .iter()
            .zip(valid.chunks(CROPS_AT_ONCE as usize))
            .map(|(pixels, valid)| self.forward_part(pixels, valid))
            .collect();
        if parts.len() == 1 { parts[0].shallow_clone() } else { Tensor::cat(&parts, 0) }
    }

    fn forward_part(&self, pixels: &Tensor, valid: &[Valid]) -> Tensor {
        let pixels = pixels.to_device(self.device).to_kind(self.kind);
        let patches = self.patch_embedding.forward(&pixels).flatten(2, 3).transpose(1, 2); // [crops, patches, hidden]
        let positions = self.position_embedding.forward(&self.position_ids(valid).to_device(self.device));
        let mask = self.mask(valid).map(|mask| mask.to_device(self.device));
        self.layers.iter().fold(patches + positions, |x, layer| layer.forward(&x, mask.as_ref()))
    }

    /// Which patches may be attended to: [crops, 1, 1, patches] of bool; None = all.
    fn mask(&self, valid: &[Valid]) -> Option<Tensor> {
        if valid.iter().all(|valid| valid.rows == self.grid && valid.columns == self.grid) {
            return None;
        }
        let flags: Vec<bool> = valid
            .iter()
            .flat_map(|valid| {
                let inside = |i: i64| i / self.grid < valid.rows && i % self.grid < valid.columns;
                (0..self.grid * self.grid).map(inside)
            })
            .collect();
        Some(Tensor::from_slice(&flags).view([valid.len() as i64, 1, 1, self.grid * self.grid]))
    }

    /// [crops, patches] of int64; padding has position 0.
    fn position_ids(&self, valid: &[Valid]) -> Tensor {
        let mut ids = vec![0; valid.len() * (self.grid * self.grid) as usize];
        for (ids, valid) in ids.chunks_mut((self.grid * self.grid) as usize).zip(valid) {
            let rows = buckets(valid.rows, self.grid, self.layout, self.kind);
            let columns = buckets(valid.columns, self.grid, self.layout, self.kind);
            for (row, row_bucket) in ids.chunks_mut(self.grid as usize).zip(rows) {
                for (id, column_bucket) in row.iter_mut().zip(&columns) {
                    *id = row_bucket * self.grid + column_bucket;
                }
            }
        }
        Tensor::from_slice(&ids).view([valid.len() as i64, -1])
    }
}

/// The bucket of each of `count` patches when they share the range of `grid` positions: how many of
/// the boundaries 1/grid, 2/grid, … are at or below the patch's place in [0, 1).
///
/// The place is rounded differently in the two layouts' own code, which for some counts moves a
/// patch to the bucket before: the original takes a float32 `linspace`, the native multiplies by
/// 1/count and rounds to the tower's number type.
fn buckets(count: i64, grid: i64, layout: Layout, kind: Kind) -> Vec<i64> {
    let places: Vec<f64> = match layout {
        Layout::Original => {
            let end = f64::from(1.0 - 1.0 / count as f32);
            let places = Tensor::linspace(0.0, end, count, (Kind::Float, Device::Cpu));
            (0..count).map(|i| places.double_value(&[i])).collect()
        }
        Layout::Native => {
            let step = 1.0 / count as f32;
            let place = |i| (i as f32 * step).min(1.0 - 1e-6);
            let rounded = |place: f32| match kind {
                Kind::BFloat16 => half::bf16::from_f32(place).to_f64(),
                Kind::Half => half::f16::from_f32(place).to_f64(),
                _ => f64::from(place),
            };
            (0..count).map(|i| rounded(place(i))).collect()
        }
    };
    places.iter().map(|place| (1..grid).filter(|k| *k as f64 / grid as f64 <= *place).count() as i64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the bucket differs from floor(32 · i / n): (n, i, bucket).
    fn differences(layout: Layout, kind: Kind) -> Vec<(i64, i64, i64)> {
        (1..=32)
            .flat_map(|n| {
                let got = buckets(n, 32, layout, kind);
                (0..n).zip(got).filter(move |(i, bucket)| *bucket != 32 * i / n).map(move |(i, b)| (n, i, b))
            })
            .collect()
    }

    #[test]
    fn buckets_are_rounded_as_in_each_layouts_own_code() {
        let original = [(20, 10, 15), (24, 3, 3), (24, 6, 7), (24, 9, 11)];
        assert_eq!(differences(Layout::Original, Kind::Float), original);
        assert_eq!(differences(Layout::Original, Kind::BFloat16), original);
        assert_eq!(differences(Layout::Native, Kind::Float), []);
        let rounded_up = [(17, 9, 17), (19, 16, 27), (21, 19, 29), (27, 16, 19), (29, 19, 21), (31, 30, 31)];
        assert_eq!(differences(Layout::Native, Kind::BFloat16), rounded_up);
    }
}
