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

/// Crops one after another that are filled alike, and which of their patches are.
struct Alike {
    crops: i64,
    filled: Filled,
}

enum Filled {
    All,
    /// So many from the first on.
    First(i64),
    /// [filled patches] of int64
    These(Tensor),
}

impl Alike {
    fn new(crops: usize, valid: Valid, grid: i64, device: Device) -> Self {
        let filled = match valid {
            // Of a crop without any nothing is used.
            Valid { rows, columns } if rows * columns == 0 || (rows, columns) == (grid, grid) => Filled::All,
            Valid { rows, columns } if columns == grid => Filled::First(rows * grid),
            Valid { rows, columns } => {
                let patches = (0..rows).flat_map(|row| (0..columns).map(move |column| row * grid + column));
                Filled::These(Tensor::from_slice(&patches.collect::<Vec<_>>()).to_device(device))
            }
        };
        Self { crops: crops as i64, filled }
    }

    /// Keys or values [crops, heads, patches, head_dim] → those of the filled patches.
    fn seen(&self, x: &Tensor) -> Tensor {
        match &self.filled {
            Filled::All => x.shallow_clone(),
            Filled::First(count) => x.narrow(2, 0, *count),
            Filled::These(patches) => x.index_select(2, patches),
        }
    }
}

struct Attention {
    qkv: Linear,
    out_proj: Linear,
    heads: i64,
}

impl Attention {
    fn new(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        let linear = |name| Linear::new(&weights.at(name), config.hidden_size, config.hidden_size);
        Ok(Self {
            qkv: Linear::side_by_side(&[linear("q_proj")?, linear("k_proj")?, linear("v_proj")?]),
            out_proj: linear("out_proj")?,
            heads: config.num_attention_heads,
        })
    }

    /// Only filled patches are attended to. Without a mask, which the fastest kernels do not take:
    /// the keys of others are left out.
    fn forward(&self, x: &Tensor, groups: &[Alike]) -> Tensor {
        let joint = split_heads(&self.qkv.forward(x), 3 * self.heads); // [crops, 3 · heads, patches, head_dim]
        let mut first = 0;
        let mix = |group: &Alike| {
            let own = joint.narrow(0, first, group.crops);
            first += group.crops;
            let part = |n: i64| own.narrow(1, n * self.heads, self.heads);
            join_heads(&attention(&part(0), &group.seen(&part(1)), &group.seen(&part(2)), None))
        };
        self.out_proj.forward(&one_of(groups.iter().map(mix).collect()))
    }
}

/// Parts of a batch as one.
fn one_of(mut parts: Vec<Tensor>) -> Tensor {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 0) }
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
        self.fc2.forward(&self.fc1.forward_activated(x, self.activation))
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

    /// States are x + y: the norm adds the two on its way. Gives the same two of what comes out.
    fn forward(&self, x: &Tensor, y: &Tensor, groups: &[Alike]) -> (Tensor, Tensor) {
        let (x, normed) = self.layer_norm1.add_forward(x, y);
        let (x, normed) = self.layer_norm2.add_forward(&x, &self.self_attn.forward(&normed, groups));
        (x, self.mlp.forward(&normed))
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
        let parts = pixels.split(CROPS_AT_ONCE, 0);
        let valid = valid.chunks(CROPS_AT_ONCE as usize);
        one_of(parts.iter().zip(valid).map(|(pixels, valid)| self.forward_part(pixels, valid)).collect())
    }

    fn forward_part(&self, pixels: &Tensor, valid: &[Valid]) -> Tensor {
        let (order, groups) = self.sorted(valid);
        let positions = self.position_ids(order.iter().map(|crop| valid[*crop as usize])).to_device(self.device);
        let is_sorted = order.is_sorted();
        let in_order = |x: Tensor, order: &[i64]| match is_sorted {
            true => x,
            false => x.index_select(0, &Tensor::from_slice(order).to_device(x.device())),
        };
        let pixels = in_order(pixels.to_device(self.device).to_kind(self.kind), &order);
        let patches = self.patch_embedding.patches(&pixels); // [crops, patches, hidden]
        let states = (patches, self.position_embedding.forward(&positions));
        let (x, y) = self.layers.iter().fold(states, |(x, y), layer| layer.forward(&x, &y, &groups));
        let mut places = vec![0; order.len()];
        (0..).zip(&order).for_each(|(place, crop)| places[*crop as usize] = place);
        in_order(x + y, &places)
    }

    /// The crops in an order in which those filled alike stand together.
    fn sorted(&self, valid: &[Valid]) -> (Vec<i64>, Vec<Alike>) {
        let mut groups: Vec<(Valid, Vec<i64>)> = Vec::new();
        for (crop, valid) in (0..).zip(valid) {
            match groups.iter_mut().find(|(of, _)| of == valid) {
                Some((_, crops)) => crops.push(crop),
                None => groups.push((*valid, vec![crop])),
            }
        }
        let alike = |(valid, crops): &(Valid, Vec<i64>)| Alike::new(crops.len(), *valid, self.grid, self.device);
        let alike = groups.iter().map(alike).collect();
        (groups.into_iter().flat_map(|(_, crops)| crops).collect(), alike)
    }

    /// [crops, patches] of int64; padding has position 0.
    fn position_ids(&self, valid: impl Iterator<Item = Valid>) -> Tensor {
        let patches = (self.grid * self.grid) as usize;
        let (mut ids, mut before) = (Vec::new(), None);
        for valid in valid {
            if before == Some(valid) {
                ids.extend_from_within(ids.len() - patches..);
            } else {
                ids.extend(self.positions(valid));
            }
            before = Some(valid);
        }
        Tensor::from_slice(&ids).view([-1, self.grid * self.grid])
    }

    /// Of the patches of a crop.
    fn positions(&self, valid: Valid) -> Vec<i64> {
        let rows = buckets(valid.rows, self.grid, self.layout, self.kind);
        let columns = buckets(valid.columns, self.grid, self.layout, self.kind);
        let mut ids = vec![0; (self.grid * self.grid) as usize];
        for (row, row_bucket) in ids.chunks_mut(self.grid as usize).zip(rows) {
            for (id, column_bucket) in row.iter_mut().zip(&columns) {
                *id = row_bucket * self.grid + column_bucket;
            }
        }
        ids
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
