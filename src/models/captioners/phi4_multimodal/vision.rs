//! The SigLIP tower over crops, with NaViT position ids: a crop that the picture fills only in part
//! spreads the whole range of positions over that part, and its padding is never attended to.
//! Source: `Phi4MultimodalVisionModel` in transformers' `modeling_phi4_multimodal.py`.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::config::{Layout, VisionConfig};
use crate::checkpoints::Weights;
use crate::nn::{
    Activation, Conv2d, Embedding, LayerNorm, Linear, attention, join_heads, split_heads, with_long_attention,
};
use crate::runtime::upload;

/// Patches that go through the tower together at most: bounds the memory of a layer, and is enough to fill a device.
const PATCHES_AT_ONCE: i64 = 32 * 1024;

/// Crops that are filled alike. Of their patches only those are computed that something is made of: the filled ones, and those
/// that are pooled with them.
struct Alike {
    /// Their places among all crops.
    crops: Vec<i64>,
    /// Computed patches of each.
    patches: i64,
    /// Which of a crop's: `[patches]` of int64; None = all.
    computed: Option<Tensor>,
    filled: Filled,
    /// Position id of each computed patch, `[patches]` of int64.
    positions: Tensor,
}

/// Which of the computed patches are filled.
enum Filled {
    All,
    /// So many from the first on.
    First(i64),
    /// [filled patches] of int64
    These(Tensor),
}

impl Alike {
    /// Keys or values [crops, heads, patches, head_dim] → those of the filled patches.
    fn seen(&self, x: &Tensor) -> Tensor {
        match &self.filled {
            Filled::All => x.shallow_clone(),
            Filled::First(count) => x.narrow(2, 0, *count),
            Filled::These(patches) => x.index_select(2, patches),
        }
    }

    /// Some of the crops.
    fn only(&self, crops: &[i64]) -> Self {
        let filled = match &self.filled {
            Filled::All => Filled::All,
            Filled::First(count) => Filled::First(*count),
            Filled::These(patches) => Filled::These(patches.shallow_clone()),
        };
        Self {
            crops: crops.to_vec(),
            patches: self.patches,
            computed: self.computed.as_ref().map(Tensor::shallow_clone),
            filled,
            positions: self.positions.shallow_clone(),
        }
    }

    fn count(&self) -> i64 {
        self.crops.len() as i64
    }

    /// Computed patches of all its crops.
    fn size(&self) -> i64 {
        self.count() * self.patches
    }

    /// Patches [crops, all patches, hidden] → those that are computed.
    fn computed_of(&self, patches: &Tensor) -> Tensor {
        self.computed.as_ref().map_or_else(|| patches.shallow_clone(), |computed| patches.index_select(1, computed))
    }

    /// Puts what was computed [crops · patches, hidden] into its places of all crops' [crops, all patches, hidden].
    fn put(&self, computed: &Tensor, all: &Tensor) {
        let (patches, hidden) = (all.size()[1], all.size()[2]);
        let crops = upload(&Tensor::from_slice(&self.crops), all.device());
        let (place, rows, row) = match &self.computed {
            None => (all.shallow_clone(), crops, vec![-1, patches, hidden]),
            Some(computed) => {
                let rows = (crops.unsqueeze(1) * patches + computed).flatten(0, 1);
                (all.view([-1, hidden]), rows, vec![-1, hidden])
            }
        };
        let _ = place.shallow_clone().index_copy_(0, &rows, &computed.view(row.as_slice()));
    }
}

/// The crops in parts of about so many patches at most. Large groups have parts of their own: what attention gives of several
/// groups must be joined.
fn parts(groups: &[Alike], most: i64) -> Vec<Vec<Alike>> {
    let (large, small): (Vec<&Alike>, Vec<&Alike>) = groups.iter().partition(|group| group.size() >= most / 4);
    let mut parts: Vec<Vec<Alike>> = large.iter().flat_map(|group| equal_parts(&[group], most)).collect();
    parts.extend(equal_parts(&small, most));
    parts
}

/// All parts are about equally large.
fn equal_parts(groups: &[&Alike], most: i64) -> Vec<Vec<Alike>> {
    let total: i64 = groups.iter().map(|group| group.size()).sum();
    let share = total / ((total + most - 1) / most).max(1);
    let (mut parts, mut part, mut size) = (Vec::new(), Vec::new(), 0);
    for group in groups {
        let mut crops = group.crops.as_slice();
        while !crops.is_empty() {
            if size >= share {
                parts.push(std::mem::take(&mut part));
                size = 0;
            }
            let fit = ((share - size + group.patches - 1) / group.patches).clamp(1, crops.len() as i64);
            let (taken, rest) = crops.split_at(fit as usize);
            part.push(group.only(taken));
            size += fit * group.patches;
            crops = rest;
        }
    }
    parts.extend((!part.is_empty()).then_some(part));
    parts
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
    /// the keys of others are left out. x: [patches of all crops, hidden]
    fn forward(&self, x: &Tensor, groups: &[Alike]) -> Tensor {
        let joint = self.qkv.forward(x);
        let (mut first, width) = (0, joint.size()[1]);
        let mix = |group: &Alike| {
            let rows = group.size();
            let own = joint.narrow(0, first, rows).view([group.count(), group.patches, width]);
            first += rows;
            let heads = split_heads(&own, 3 * self.heads); // [crops, 3 · heads, patches, head_dim]
            let part = |n: i64| heads.narrow(1, n * self.heads, self.heads);
            let mixed = attention(&part(0), &group.seen(&part(1)), &group.seen(&part(2)), None);
            join_heads(&mixed).flatten(0, 1)
        };
        self.out_proj.forward(&one_of(with_long_attention(|| groups.iter().map(mix).collect())))
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

impl Valid {
    /// Those, and what is pooled with them, 2 × 2 at a time, in a crop of so many rows and columns.
    fn pooled_with(self, grid: i64) -> Self {
        let whole = |count: i64| ((count + 1) / 2 * 2).min(grid);
        Self { rows: whole(self.rows), columns: whole(self.columns) }
    }

    /// Their places among the patches of a crop with so many columns.
    fn patches(self, columns: i64) -> Vec<i64> {
        (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| row * columns + column)).collect()
    }
}

/// The tower, without the layers above the feature that the model uses.
pub struct VisionTower {
    patch_embedding: Conv2d,
    position_embedding: Embedding,
    layers: Vec<Layer>,
    hidden: i64,
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
            hidden: size,
            grid,
            layout,
            device: weights.device(),
            kind: weights.kind(),
        })
    }

    /// Pixels [crops, 3, size, size] in float32 on any device, and the filled part of each crop
    /// → features [crops, patches, hidden]; zeros where a patch is neither filled nor pooled with one that is.
    pub fn forward(&self, pixels: &Tensor, valid: &[Valid]) -> Tensor {
        let groups = self.alike(valid);
        let size = [valid.len() as i64, self.grid * self.grid, self.hidden];
        let all = Tensor::zeros(size, (self.kind, self.device));
        for part in parts(&groups, PATCHES_AT_ONCE) {
            let features = self.forward_part(pixels, &part);
            let rows: Vec<i64> = part.iter().map(Alike::size).collect();
            let features = features.split_with_sizes(rows, 0);
            part.iter().zip(&features).for_each(|(group, features)| group.put(features, &all));
        }
        all
    }

    /// [patches of all crops of the groups, hidden]
    fn forward_part(&self, pixels: &Tensor, groups: &[Alike]) -> Tensor {
        let crops: Vec<i64> = groups.iter().flat_map(|group| group.crops.clone()).collect();
        let pixels = pixels.index_select(0, &upload(&Tensor::from_slice(&crops), pixels.device()));
        let all = self.patch_embedding.patches(&pixels.to_device(self.device).to_kind(self.kind)); // [crops, patches, hidden]
        let (mut first, mut patches, mut positions) = (0, Vec::new(), Vec::new());
        for group in groups {
            patches.push(group.computed_of(&all.narrow(0, first, group.count())).flatten(0, 1));
            positions.push(self.position_embedding.forward(&group.positions).repeat([group.count(), 1]));
            first += group.count();
        }
        // Contiguous, as the norms' kernels want it.
        let states = (one_of(patches).contiguous(), one_of(positions));
        let (x, y) = self.layers.iter().fold(states, |(x, y), layer| layer.forward(&x, &y, groups));
        x + y
    }

    /// The crops by how they are filled. Those without any patch of the picture are left out: nothing of them is used.
    fn alike(&self, valid: &[Valid]) -> Vec<Alike> {
        let mut groups: Vec<(Valid, Vec<i64>)> = Vec::new();
        for (crop, valid) in (0..).zip(valid).filter(|(_, valid)| valid.rows * valid.columns > 0) {
            match groups.iter_mut().find(|(of, _)| of == valid) {
                Some((_, crops)) => crops.push(crop),
                None => groups.push((*valid, vec![crop])),
            }
        }
        groups.into_iter().map(|(valid, crops)| self.filled_alike(valid, crops)).collect()
    }

    fn filled_alike(&self, valid: Valid, crops: Vec<i64>) -> Alike {
        let (grid, computed) = (self.grid, valid.pooled_with(self.grid));
        let on_device = |patches: Vec<i64>| upload(&Tensor::from_slice(&patches), self.device);
        let filled = match valid {
            _ if valid == computed => Filled::All,
            Valid { rows, columns } if columns == computed.columns => Filled::First(rows * columns),
            valid => Filled::These(on_device(valid.patches(computed.columns))),
        };
        let patches = computed.patches(grid);
        let positions = self.positions(valid);
        let positions = on_device(patches.iter().map(|patch| positions[*patch as usize]).collect());
        let is_whole = computed == Valid { rows: grid, columns: grid };
        Alike {
            crops,
            patches: patches.len() as i64,
            computed: (!is_whole).then(|| on_device(patches)),
            filled,
            positions,
        }
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

    #[test]
    fn parts_hold_each_crop_once_and_large_groups_are_alone() {
        let alike = |crops: std::ops::Range<i64>, patches: i64| Alike {
            crops: crops.collect(),
            patches,
            computed: None,
            filled: Filled::All,
            positions: Tensor::zeros([patches], (Kind::Int64, Device::Cpu)),
        };
        let groups = [alike(0..48, 1024), alike(48..80, 512), alike(80..84, 64), alike(84..87, 1024)];
        let parts = parts(&groups, 32 * 1024);
        let sizes: Vec<i64> = parts.iter().map(|part| part.iter().map(Alike::size).sum()).collect();
        assert_eq!(sizes, [24 * 1024, 24 * 1024, 32 * 512, 4 * 64 + 3 * 1024]);
        let crops: Vec<i64> = parts.iter().flatten().flat_map(|group| group.crops.clone()).collect();
        assert_eq!(crops, (0..87).collect::<Vec<_>>());
        // Small groups are cut where a part is full.
        let small: Vec<Alike> = (0..9).map(|at| alike(at..at + 1, 20)).collect();
        let sizes: Vec<usize> = super::parts(&small, 100).iter().map(Vec::len).collect();
        assert_eq!(sizes, [5, 4]);
        assert!(super::parts(&[], 1024).is_empty());
    }

    #[test]
    fn what_is_pooled_with_the_picture_is_computed() {
        let pooled = |rows, columns| Valid { rows, columns }.pooled_with(7);
        assert_eq!(pooled(3, 4), Valid { rows: 4, columns: 4 });
        assert_eq!(pooled(7, 1), Valid { rows: 7, columns: 2 });
        assert_eq!(pooled(1, 2).patches(7), [0, 1, 7, 8]);
    }

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
