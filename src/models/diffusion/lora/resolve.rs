//! From a file of low-rank adapters to the weights that it changes: all that does not fit is said at once.

use std::path::Path;

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::file::{Layer, LoraFile};
use super::names::{Index, Target};
use crate::checkpoints::{Checkpoint, is_finite, list};
use crate::error::usage;
use crate::models::{LoraChoice, locate_lora};

/// A file that fits a generator.
#[derive(Debug)]
pub struct Lora {
    tensors: Checkpoint,
    changes: Vec<Change>,
}

/// What a file does to one weight.
#[derive(Debug)]
pub(super) struct Change {
    pub part: &'static str,
    /// The weight's name in the checkpoint of its part.
    pub key: String,
    shape: Vec<i64>,
    down: String,
    up: String,
    mid: Option<String>,
    scale: f64,
}

/// Opens the files of a request and finds the weights that they change; reads no large tensors.
pub fn open(choices: &[LoraChoice], index: &Index) -> Result<Vec<Lora>> {
    choices.iter().map(|choice| Lora::open(choice, index)).collect()
}

impl Lora {
    fn open(choice: &LoraChoice, index: &Index) -> Result<Self> {
        let path = &locate_lora(&choice.file.to_string_lossy(), true)?;
        if !choice.weight.is_finite() {
            return Err(usage(format!(
                "{}: its weight {} is not a number to work with",
                path.display(),
                choice.weight
            )));
        }
        let mut file = LoraFile::open(path)?;
        let mut faults = Faults::beside(std::mem::take(&mut file.unknown));
        let (mut changes, mut views) = (Vec::new(), Vec::new());
        for (name, layer) in &file.layers {
            let Some((down, up)) = faults.both(layer) else { continue };
            let Some(found) = index.find(name) else {
                faults.unknown.extend([down.clone(), up.clone()]);
                continue;
            };
            let Some(rank) = rank(&file.checkpoint, layer, &mut faults) else { continue };
            let Some(whole) = file.checkpoint.entry(up) else { continue };
            let Ok(targets) = found.targets(whole.clone()) else {
                faults.misshapen.push(format!("{up} {:?}, whose rows belong to several layers", whole.shape));
                continue;
            };
            if targets.is_empty() {
                faults.unknown.extend([down.clone(), up.clone()]);
            }
            let scale = choice.weight * file.scale(name, layer, rank)?;
            for (i, target) in targets.into_iter().enumerate() {
                faults.compare(&file.checkpoint, layer, &target);
                let Target { part, key, shape, up: rows } = target;
                let own = format!("{up}#{i}");
                views.push((own.clone(), rows));
                changes.push(Change { part, key, shape, down: down.clone(), up: own, mid: layer.mid.clone(), scale });
            }
        }
        let other = family(&file.checkpoint).filter(|title| *title != index.title);
        faults.tell(path, other, index.title)?;
        let LoraFile { checkpoint, .. } = file;
        let tensors = views.into_iter().fold(checkpoint, |all, (name, rows)| all.with(&name, rows));
        Ok(Self { tensors, changes })
    }

    /// Whether it changes anything in a network.
    pub fn touches(&self, part: &str) -> bool {
        self.changes(part).next().is_some()
    }

    /// The changes of a network's weights.
    pub(super) fn changes(&self, part: &str) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.part == part)
    }

    /// What is added to the weight: float32 of its shape, on the device.
    pub(super) fn difference(&self, change: &Change, device: Device) -> Result<Tensor> {
        let read = |name: &str| -> Result<Tensor> {
            let tensor = self.tensors.read(name, Device::Cpu, Kind::Float)?;
            if !is_finite(&tensor) {
                let file = self.tensors.files().next().map(|file| file.display().to_string()).unwrap_or_default();
                let name = name.split('#').next().unwrap_or_default();
                bail!("{file}: tensor {name} holds NaN or infinity: a damaged file?");
            }
            Ok(tensor.to_device(device))
        };
        let (down, up) = (read(&change.down)?, read(&change.up)?);
        let up = up.flatten(1, -1); // [output, rank]
        let product = match &change.mid {
            None => up.f_matmul(&down.flatten(1, -1))?,
            // [rank, rank, height, width] between the two
            Some(mid) => Tensor::f_einsum("oa,abhw,bi->oihw", &[&up, &read(mid)?, &down.flatten(1, -1)], None::<i64>)?,
        };
        Ok(product.f_reshape(&change.shape)? * change.scale)
    }
}

/// The rank of a layer's adapter, where its tensors agree on one.
pub(super) fn rank(checkpoint: &Checkpoint, layer: &Layer, faults: &mut Faults) -> Option<i64> {
    if let Some(alpha) = &layer.alpha {
        let entry = checkpoint.entry(alpha)?;
        let one =
            entry.len() == 1 && checkpoint.read(alpha, Device::Cpu, Kind::Double).ok().as_ref().is_some_and(is_finite);
        if !one {
            faults.misshapen.push(format!("{alpha} {:?}, which should be one finite number", entry.shape));
            return None;
        }
    }
    let shape = |name: &Option<String>| Some(checkpoint.entry(name.as_deref()?)?.shape.clone());
    let (down, up, mid) = (shape(&layer.down)?, shape(&layer.up)?, shape(&layer.mid));
    let (rank, up_rank) = (down.first().copied()?, up.get(1).copied());
    let agree = match &mid {
        None => up_rank == Some(rank),
        Some(mid) => mid.first().copied() == up_rank && mid.get(1) == Some(&rank),
    };
    if down.len() < 2 || rank < 1 || up_rank.is_none() || !agree {
        let names = [&layer.down, &layer.mid, &layer.up].into_iter().flatten().cloned().collect::<Vec<_>>();
        let shapes = [Some(down), mid, Some(up)].into_iter().flatten().map(|shape| format!("{shape:?}"));
        let shapes = shapes.collect::<Vec<_>>().join(", ");
        faults.misshapen.push(format!("{} {shapes}, which are not of one rank", names.join(", ")));
        return None;
    }
    Some(rank)
}

/// All that does not fit.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Tensors of layers that the generator does not have, or of no layer.
    unknown: Vec<String>,
    /// Tensors whose other half is missing.
    halves: Vec<String>,
    misshapen: Vec<String>,
}

impl Faults {
    /// Those that were found beside tensors that say nothing.
    pub fn beside(unknown: Vec<String>) -> Self {
        Self { unknown, ..Self::default() }
    }

    /// Both matrices of a layer, by name.
    pub fn both<'l>(&mut self, layer: &'l Layer) -> Option<(&'l String, &'l String)> {
        let both = layer.down.as_ref().zip(layer.up.as_ref());
        if both.is_none() {
            self.halves.extend([&layer.down, &layer.up, &layer.mid, &layer.alpha].into_iter().flatten().cloned());
        }
        both
    }

    /// Compares the shapes of a layer's matrices with the weight's.
    fn compare(&mut self, checkpoint: &Checkpoint, layer: &Layer, target: &Target) {
        let (output, rest) = (target.shape[0], trimmed(&target.shape[1..]));
        let named = |name: &Option<String>| Some((name.clone()?, checkpoint.entry(name.as_deref()?)?.shape.clone()));
        let (Some((down, down_shape)), Some((up, up_shape))) = (named(&layer.down), named(&layer.up)) else { return };
        let key = format!("{}.{}", target.part, target.key);
        let (input, kernel) = rest.split_at(1);
        let wanted: Vec<i64> = if layer.mid.is_some() { input.to_vec() } else { rest.to_vec() };
        if trimmed(&down_shape[1..]) != wanted {
            let of = wanted.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            self.misshapen.push(format!("{down} {down_shape:?} for {key}, which asks for [rank, {of}]"));
        }
        if let Some((mid, shape)) = named(&layer.mid)
            && trimmed(&shape[1..])[1..] != *kernel
        {
            self.misshapen.push(format!("{mid} {shape:?} for {key} of shape {:?}", target.shape));
        }
        if target.up.shape[0] != output || trimmed(&target.up.shape[1..]).len() != 1 {
            let times = if target.up.shape[0] == up_shape[0] { String::new() } else { " in equal parts".to_string() };
            self.misshapen.push(format!("{up} {up_shape:?} for {key}, which asks for [{output}, rank]{times}"));
        }
    }

    /// Says all of it of a file to be used by `title`, or that it is for `other`.
    pub fn tell(self, path: &Path, other: Option<&str>, title: &str) -> Result<()> {
        let Self { mut unknown, halves, misshapen } = self;
        unknown.sort();
        let file = path.display();
        if !unknown.is_empty()
            && let Some(other) = other
        {
            return Err(usage(format!("{file}: this is a LoRA for {other}, and {title} is to draw")));
        }
        let mut parts = Vec::new();
        for (names, one, many, advice) in [
            (unknown, "tensor", "tensors", format!("that no layer of {title} asks for")),
            (
                halves,
                "tensor",
                "tensors",
                "whose other half (lora_down with lora_up, lora_A with lora_B) is missing".into(),
            ),
            (misshapen, "shape", "shapes", "that the layer does not have".to_string()),
        ] {
            let count = names.len();
            if count > 0 {
                let noun = if count == 1 { one } else { many };
                parts.push(format!("{count} {noun} {advice} ({})", list(names.into_iter(), count)));
            }
        }
        if parts.is_empty() { Ok(()) } else { Err(usage(format!("{file}: {}", parts.join("; ")))) }
    }
}

/// Without sizes of one at the end: a convolution of one place is a linear layer, whichever way it is stored.
fn trimmed(shape: &[i64]) -> Vec<i64> {
    let mut shape = shape.to_vec();
    while shape.len() > 1 && shape.last() == Some(&1) {
        shape.pop();
    }
    shape
}

/// Parts of names that tell for which models an adapter was trained, the surer ones first.
const FAMILIES: [(&str, &str); 11] = [
    ("single_transformer_blocks", "FLUX"),
    ("double_blocks", "FLUX"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("transformer.transformer_blocks", "Stable Diffusion 3"),
    ("lora_transformer_transformer_blocks", "Stable Diffusion 3"),
    ("input_blocks_4_1_transformer_blocks_1", "Stable Diffusion XL"),
    ("down_blocks_1_attentions_0_transformer_blocks_1", "Stable Diffusion XL"),
    ("down_blocks.1.attentions.0.transformer_blocks.1", "Stable Diffusion XL"),
    ("down_blocks", "Stable Diffusion 1 or 2"),
    ("input_blocks", "Stable Diffusion 1 or 2"),
    ("up_blocks", "Stable Diffusion 1 or 2"),
];

/// The family that a file is for, as far as its names tell.
pub(super) fn family(checkpoint: &Checkpoint) -> Option<&'static str> {
    let is_there = |part: &str| checkpoint.names().any(|name| name.contains(part));
    FAMILIES.iter().find(|(part, _)| is_there(part)).map(|(_, title)| *title)
}
