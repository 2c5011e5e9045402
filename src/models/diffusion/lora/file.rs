//! What a file of low-rank adapters holds, layer by layer, as the file calls them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use tch::{Device, Kind};

use crate::checkpoints::{Checkpoint, list};
use crate::error::usage;

/// What a tensor is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Down,
    Up,
    Mid,
    Alpha,
}

/// The ends of names, and what they say: PEFT's, kohya's, those of diffusers before 0.22 (in a text encoder, elsewhere, and
/// those of its attention processors).
const ENDS: [(&str, Role); 12] = [
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_mid.weight", Role::Mid),
    (".alpha", Role::Alpha),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
];

/// Parts of names that other kinds of adapters have, those of the last point on.
const OTHER_KINDS: [(&str, &str); 10] = [
    ("dora_scale", "DoRA (weight-decomposed) adapters"),
    ("lora_magnitude_vector", "DoRA (weight-decomposed) adapters"),
    ("hada_", "LoHa adapters (Hadamard products)"),
    ("lokr_", "LoKr adapters (Kronecker products)"),
    ("oft_", "OFT adapters"),
    ("diff_b", "differences of whole biases"),
    ("diff", "differences of whole weights"),
    ("lora_B.bias", "LoRA with biases"),
    ("lora_embedding_", "LoRA of embeddings"),
    ("vera_", "VeRA adapters"),
];

/// Where diffusers and PEFT note how adapters were trained.
const METADATA: &str = "lora_adapter_metadata";

/// The tensors of one layer, by their names in the file.
#[derive(Debug, Default)]
pub(super) struct Layer {
    /// [rank, input, …]
    pub down: Option<String>,
    /// [output, rank, …]
    pub up: Option<String>,
    /// Between the two, of convolutions: [rank, rank, height, width].
    pub mid: Option<String>,
    pub alpha: Option<String>,
}

/// An opened file.
#[derive(Debug)]
pub(super) struct LoraFile {
    pub checkpoint: Checkpoint,
    pub layers: BTreeMap<String, Layer>,
    /// Tensors that say nothing that is known.
    pub unknown: Vec<String>,
    trained: Trained,
}

impl LoraFile {
    pub fn open(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(&[path])?;
        let (mut layers, mut unknown, mut others) = (BTreeMap::<String, Layer>::new(), Vec::new(), BTreeMap::new());
        for name in checkpoint.names() {
            let is = |(start, _): &&(&str, &str)| {
                name.rmatch_indices('.').take(2).any(|(at, _)| name[at + 1..].starts_with(start))
            };
            if let Some((_, kind)) = OTHER_KINDS.iter().find(is) {
                others.entry(*kind).or_insert_with(Vec::new).push(name.to_string());
                continue;
            }
            let Some((layer, role)) = ENDS.iter().find_map(|(end, role)| Some((name.strip_suffix(end)?, role))) else {
                unknown.push(name.to_string());
                continue;
            };
            let layer = layers.entry(layer.to_string()).or_default();
            let place = match role {
                Role::Down => &mut layer.down,
                Role::Up => &mut layer.up,
                Role::Mid => &mut layer.mid,
                Role::Alpha => &mut layer.alpha,
            };
            *place = Some(name.to_string());
        }
        if !others.is_empty() {
            let kind =
                |(kind, names): (_, &Vec<String>)| format!("{kind} ({})", list(names.iter().cloned(), names.len()));
            let kinds: Vec<String> = others.iter().map(kind).collect();
            return Err(usage(format!(
                "{}: it holds {}, which are not known here: use a plain LoRA",
                path.display(),
                kinds.join(" and ")
            )));
        }
        if layers.is_empty() {
            return Err(usage(format!(
                "{}: no low-rank adapters in it (tensors whose names end in lora_down.weight, lora_A.weight or the like): is \
                 it a whole model, or a file of another kind?",
                path.display()
            )));
        }
        let trained = Trained::of(&checkpoint).with_context(|| path.display().to_string())?;
        Ok(Self { checkpoint, layers, unknown, trained })
    }

    /// What the product of a layer's matrices is multiplied with: alpha / rank, or with rank-stabilised training alpha /
    /// √rank, where the file notes an alpha; else 1.
    pub fn scale(&self, name: &str, layer: &Layer, rank: i64) -> Result<f64> {
        let Some(alpha) = self.alpha(name, layer)? else { return Ok(1.0) };
        let stabilised = layer.alpha.is_none() && self.trained.is_stabilised(name);
        Ok(alpha / if stabilised { (rank as f64).sqrt() } else { rank as f64 })
    }

    /// The alpha of a layer, where the file notes one: as a tensor, or in what it says of the training.
    pub fn alpha(&self, name: &str, layer: &Layer) -> Result<Option<f64>> {
        match &layer.alpha {
            Some(alpha) => Ok(Some(self.checkpoint.read(alpha, Device::Cpu, Kind::Double)?.f_double_value(&[])?)),
            None => Ok(self.trained.alpha(name)),
        }
    }

    /// Whether training was rank-stabilised.
    pub fn is_stabilised(&self) -> bool {
        self.trained.0.values().any(|network| network.stabilised)
    }
}

/// What is noted of the training: of each network, `r`, `lora_alpha`, `use_rslora` and patterns of layers that differ.
#[derive(Debug, Default)]
struct Trained(BTreeMap<String, Network>);

#[derive(Debug)]
struct Network {
    alpha: Option<f64>,
    /// Patterns of layers, and their alphas.
    patterns: Vec<(Regex, f64)>,
    stabilised: bool,
}

impl Trained {
    fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let Some(text) = checkpoint.metadata().remove(METADATA) else { return Ok(Self::default()) };
        let all: Map<String, Value> =
            serde_json::from_str(&text).with_context(|| format!("{METADATA} in its header is not JSON"))?;
        let mut networks: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for (key, value) in all {
            if let Some((network, option)) = key.split_once('.') {
                networks.entry(network.to_string()).or_default().insert(option.to_string(), value);
            }
        }
        let read = |(name, options): (String, Map<String, Value>)| {
            let network = Network::read(&options).with_context(|| format!("{METADATA} of {name} in its header"))?;
            Ok((name, network))
        };
        networks.into_iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// The network of a layer, and the layer's name in it.
    fn network<'n>(&self, name: &'n str) -> Option<(&Network, &'n str)> {
        name.split_once('.').and_then(|(network, layer)| Some((self.0.get(network)?, layer)))
    }

    fn alpha(&self, name: &str) -> Option<f64> {
        let (network, layer) = self.network(name)?;
        let pattern = network.patterns.iter().find(|(pattern, _)| pattern.is_match(layer));
        pattern.map(|(_, alpha)| *alpha).or(network.alpha)
    }

    fn is_stabilised(&self, name: &str) -> bool {
        self.network(name).is_some_and(|(network, _)| network.stabilised)
    }
}

impl Network {
    fn read(options: &Map<String, Value>) -> Result<Self> {
        if options.get("use_dora").and_then(Value::as_bool) == Some(true) {
            return Err(usage("DoRA (weight-decomposed) adapters, which are not known here: use a plain LoRA"));
        }
        let number = |value: &Value, name: &str| value.as_f64().with_context(|| format!("{name} is no number"));
        let alpha = options.get("lora_alpha").map(|alpha| number(alpha, "lora_alpha")).transpose()?;
        let mut patterns = Vec::new();
        for (pattern, alpha) in options.get("alpha_pattern").and_then(Value::as_object).into_iter().flatten() {
            // As PEFT matches them; text encoders lost the outermost name between two versions of transformers.
            let plain = pattern.strip_prefix("text_model.").unwrap_or(pattern);
            let regex = RegexBuilder::new(&format!("^(?:(.*\\.)?(?:{plain}))$"))
                .size_limit(1 << 20)
                .build()
                .with_context(|| format!("alpha_pattern {pattern:?} is no pattern"))?;
            patterns.push((regex, number(alpha, "alpha_pattern")?));
        }
        let stabilised = options.get("use_rslora").and_then(Value::as_bool) == Some(true);
        Ok(Self { alpha, patterns, stabilised })
    }
}
