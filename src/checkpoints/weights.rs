//! A place in a checkpoint from which a model is built: the path passed down *is* the key.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow, bail};
use tch::{Device, Kind, Tensor};

use super::finite::{first_not_finite, is_finite};
use super::{Checkpoint, read};

/// Keys that public checkpoints carry and no model needs.
const EXCUSED_SUFFIXES: [&str; 2] = [".position_ids", ".num_batches_tracked"];

/// A path inside a checkpoint, with the device and number type to load to. Cheap to clone.
///
/// ```text
/// let attn = weights.at("layers").at(3).at("self_attn");   // layers.3.self_attn
/// let q = attn.get("q_proj.weight", &[768, 768])?;         // layers.3.self_attn.q_proj.weight
/// ```
#[derive(Clone)]
pub struct Weights {
    source: Arc<Source>,
    prefix: String,
    device: Device,
    kind: Kind,
}

struct Source {
    tensors: Tensors,
    used: Mutex<BTreeSet<String>>,
    /// Whether each tensor read so far is finite, as numbers on the device: read once, at the end.
    finite: Mutex<Vec<(String, Tensor)>>,
}

enum Tensors {
    Files(Checkpoint),
    /// Every tensor that is asked for exists, normally distributed with this deviation: for
    /// measuring speed at real sizes without the real files.
    Random(f64),
}

impl Weights {
    pub(super) fn from_checkpoint(checkpoint: Checkpoint, device: Device, kind: Kind) -> Self {
        Self::new(Tensors::Files(checkpoint), device, kind)
    }

    /// Weights that are drawn on the device as they are asked for. Optional tensors are absent.
    pub fn random(device: Device, kind: Kind) -> Self {
        Self::new(Tensors::Random(0.02), device, kind)
    }

    fn new(tensors: Tensors, device: Device, kind: Kind) -> Self {
        let source = Source { tensors, used: Mutex::default(), finite: Mutex::default() };
        Self { source: Arc::new(source), prefix: String::new(), device, kind }
    }

    /// The place one step further down.
    pub fn at(&self, part: impl Display) -> Self {
        Self { prefix: self.key(part), ..self.clone() }
    }

    /// The same place, loading to another number type.
    pub fn with_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole key of `name` here.
    pub fn key(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// Whether the tensor is in the files (never so for random weights).
    pub fn contains(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// The shape in the files (none for random weights).
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        match &self.source.tensors {
            Tensors::Files(checkpoint) => checkpoint.entry(&self.key(name)).map(|entry| entry.shape.clone()),
            Tensors::Random(_) => None,
        }
    }

    /// The tensor of this name, which must be there and of this shape.
    pub fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let key = self.key(name);
        match &self.source.tensors {
            Tensors::Random(deviation) => {
                let options = (self.kind, self.device);
                Ok(if shape.len() > 1 {
                    Tensor::randn(shape, options) * *deviation
                } else {
                    Tensor::full(shape, 0.5, options)
                })
            }
            Tensors::Files(checkpoint) => {
                let Some(entry) = checkpoint.entry(&key) else {
                    bail!("{}: tensor {key} is missing", self.files());
                };
                if entry.shape != shape {
                    bail!(
                        "{}: tensor {key} has shape {:?}, its configuration asks for {shape:?}",
                        entry.file.display(),
                        entry.shape
                    );
                }
                self.mark(key.clone());
                let tensor = checkpoint.read(&key, self.device, self.kind)?;
                self.check_finite(checkpoint, key, &tensor)?;
                Ok(tensor)
            }
        }
    }

    /// The tensor if the files have it; then it must be of this shape.
    pub fn get_if_present(&self, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        if self.contains(name) { self.get(name, shape).map(Some) } else { Ok(None) }
    }

    /// Accepts every tensor under this place without reading it (parts that the model has no use for).
    pub fn ignore(&self) {
        if let Tensors::Files(checkpoint) = &self.source.tensors {
            let below = format!("{}.", self.prefix);
            for name in checkpoint.names().filter(|name| **name == self.prefix || name.starts_with(&below)) {
                self.mark(name.to_string());
            }
        }
    }

    /// A NaN or infinity among the weights is an error: at once on the CPU, at the end on a device.
    fn check_finite(&self, checkpoint: &Checkpoint, key: String, tensor: &Tensor) -> Result<()> {
        if self.device == Device::Cpu {
            return if is_finite(tensor) { Ok(()) } else { Err(not_finite(checkpoint, &key, self.kind)) };
        }
        if tensor.is_floating_point() {
            let flag = tensor.isfinite().all();
            self.source.finite.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((key, flag));
        }
        Ok(())
    }

    /// Ends the loading: a tensor that nothing asked for is an error, and so is one that is not finite.
    pub fn finish(&self) -> Result<()> {
        let Tensors::Files(checkpoint) = &self.source.tensors else { return Ok(()) };
        let flags = std::mem::take(&mut *self.source.finite.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        if let Some(key) = first_not_finite(&flags) {
            return Err(not_finite(checkpoint, key, self.kind));
        }
        let used = self.source.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let extra: Vec<&str> = checkpoint
            .names()
            .filter(|name| !used.contains(*name) && !EXCUSED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)))
            .collect();
        match extra.as_slice() {
            [] => Ok(()),
            [first, ..] => bail!(
                "{}: {} tensors that this model does not have, the first is {first}: is it another model's file?",
                self.files(),
                extra.len()
            ),
        }
    }

    /// The files, for error messages.
    pub fn files(&self) -> String {
        match &self.source.tensors {
            Tensors::Files(checkpoint) => {
                let files: Vec<String> = checkpoint.maps.keys().map(|path| path.display().to_string()).collect();
                match files.as_slice() {
                    [first, _, ..] => format!("{first} and {} more", files.len() - 1),
                    _ => files.concat(),
                }
            }
            Tensors::Random(_) => "random weights".to_string(),
        }
    }

    fn mark(&self, key: String) {
        self.source.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(key);
    }
}

fn not_finite(checkpoint: &Checkpoint, key: &str, kind: Kind) -> anyhow::Error {
    let Some(entry) = checkpoint.entry(key) else { return anyhow!("tensor {key} is not finite") };
    let file = entry.file.display();
    let narrowed = read::is_float(entry.kind) && entry.kind != kind;
    match checkpoint.read(key, Device::Cpu, entry.kind) {
        Ok(stored) if narrowed && is_finite(&stored) => {
            anyhow!("{file}: tensor {key} overflows in {kind:?}: choose another --dtype")
        }
        _ => anyhow!("{file}: tensor {key} holds NaN or infinity: a damaged file?"),
    }
}
