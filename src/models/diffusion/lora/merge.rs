//! Changes the weights of a network in place, and gives them back byte by byte.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::resolve::{Change, Lora};
use crate::checkpoints::Places;
use crate::models::diffusion::pipeline_part::Part;

/// A network whose weights can be changed while it stays in memory, where captured work finds them.
#[derive(Debug)]
pub struct Adaptable {
    part: Part,
    places: Places,
    /// What the weights that are changed were before, in main memory.
    before: RefCell<BTreeMap<String, Tensor>>,
}

impl Adaptable {
    /// `places` are those of the network that was built of `part`.
    pub fn new(part: Part, places: Places) -> Self {
        Self { part, places, before: RefCell::default() }
    }

    /// Merges these adapters, and no others, into the weights; whether that changed anything. Each weight is summed in
    /// float32 from what it was in the checkpoint, and rounded once.
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
                    self.place(&key)?.f_copy_(&was)?;
                }
            }
            for (key, changes) in changes {
                let mut place = self.place(key)?;
                if !before.contains_key(key) {
                    before.insert(key.to_string(), place.f_to_device(Device::Cpu)?.f_contiguous()?.copy());
                }
                let was = before.get(key).context("a weight that was just kept")?;
                let wide = was.f_to_device(place.device())?.f_to_kind(Kind::Float)?;
                // Not in place: on a CPU in float32 this is what is kept.
                let add = |sum: Tensor, (lora, change): (&Lora, &Change)| -> Result<Tensor> {
                    Ok(sum.f_add(&lora.difference(change, place.device())?)?)
                };
                let sum = changes.into_iter().try_fold(wide, add)?;
                place.f_copy_(&sum.f_to_kind(place.kind())?)?;
            }
            Ok(changed)
        })
    }

    fn place(&self, key: &str) -> Result<Tensor> {
        self.places.get(key).with_context(|| format!("{}: nothing is computed with {key}", self.part.folder))
    }
}
