//! Changes the weights of a network in place, and gives them back byte by byte.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::resolve::{Change, Lora};
use crate::checkpoints::{Checkpoint, Place, Places};
use crate::models::diffusion::pipeline_part::Part;
use crate::nn::requantise;

/// A network whose weights can be changed while it stays in memory, where captured work finds them.
#[derive(Debug)]
pub struct Adaptable {
    part: Part,
    places: Places,
    /// Where weights that are in float8 are whole, and the number type that they were quantised from.
    originals: Option<(Checkpoint, Kind)>,
    /// What the weights that are changed were before, in main memory.
    before: RefCell<BTreeMap<String, Tensor>>,
}

impl Adaptable {
    /// `places` are those of the network that was built of `part`; `originals` its checkpoint, and the number type that it
    /// was read in, where some of its weights are in float8.
    pub fn new(part: Part, places: Places, originals: Option<(Checkpoint, Kind)>) -> Self {
        Self { part, places, originals, before: RefCell::default() }
    }

    /// Merges these adapters, and no others, into the weights; whether that changed anything. Each weight is summed in
    /// float32 from what it was in the checkpoint, and rounded or quantised once.
    pub fn merge(&self, loras: &[Lora]) -> Result<bool> {
        tch::no_grad(|| {
            let mut changes: BTreeMap<&str, Vec<(&Lora, &Change)>> = BTreeMap::new();
            for lora in loras {
                for change in lora.changes(self.part.folder) {
                    changes.entry(&change.key).or_default().push((lora, change));
                }
            }
            let mut before = self.before.borrow_mut();
            let changed = !before.is_empty() || !changes.is_empty();
            let gone: Vec<String> = before.keys().filter(|key| !changes.contains_key(key.as_str())).cloned().collect();
            for key in gone {
                if let Some(was) = before.remove(&key) {
                    self.write(&key, &was)?;
                }
            }
            for (key, changes) in changes {
                let device = self.device(key)?;
                if !before.contains_key(key) {
                    before.insert(key.to_string(), self.original(key)?);
                }
                let was = before.get(key).context("a weight that was just kept")?;
                let wide = was.f_to_device(device)?.f_to_kind(Kind::Float)?;
                // Not in place: on a CPU in float32 this is what is kept.
                let add = |sum: Tensor, (lora, change): (&Lora, &Change)| -> Result<Tensor> {
                    Ok(sum.f_add(&lora.difference(change, device)?)?)
                };
                let sum = changes.into_iter().try_fold(wide, add)?;
                self.write(key, &sum)?;
            }
            Ok(changed)
        })
    }

    fn device(&self, key: &str) -> Result<Device> {
        Ok(match self.place(key)? {
            Place::Plain(tensor) | Place::Float8(tensor, _) => tensor.device(),
        })
    }

    /// What a weight is that was not changed, in main memory.
    fn original(&self, key: &str) -> Result<Tensor> {
        match self.place(key)? {
            Place::Plain(tensor) => Ok(tensor.f_to_device(Device::Cpu)?.f_contiguous()?.copy()),
            Place::Float8(..) => {
                let (tensors, kind) = self.originals.as_ref().context(
                    "random weights in float8 take no low-rank adapters: measure them without --precision fp8",
                )?;
                tensors.read(key, Device::Cpu, *kind)
            }
        }
    }

    /// Writes a weight to where it is computed with, in the type that it has there.
    fn write(&self, key: &str, weight: &Tensor) -> Result<()> {
        match self.place(key)? {
            Place::Plain(mut tensor) => Ok(tensor.f_copy_(&weight.f_to_kind(tensor.kind())?)?),
            Place::Float8(values, scales) => requantise(&weight.f_to_device(values.device())?, &values, &scales),
        }
    }

    fn place(&self, key: &str) -> Result<Place> {
        self.places.get(key).with_context(|| format!("{}: nothing is computed with {key}", self.part.folder))
    }
}
