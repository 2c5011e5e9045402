//! One pass over batches: the same loop for whatever is computed, alone or by workers.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::runtime::{during, shim};

/// Batches that are prepared while one is computed: the device need not wait, and memory stays bounded.
const AHEAD: usize = 2;

/// What a batch came to, on its way between processes.
#[derive(Debug, Default)]
pub struct Packed {
    pub value: Value,
    pub blobs: Vec<Vec<u8>>,
}

impl Packed {
    /// What has no bytes of its own. Numbers that must arrive to the last digit go as bytes instead.
    pub fn of(value: &impl Serialize) -> Result<Self> {
        Ok(Self { value: serde_json::to_value(value)?, blobs: Vec::new() })
    }

    /// The inverse of [`Self::of`].
    pub fn read<T: for<'de> Deserialize<'de>>(self) -> Result<T> {
        serde_json::from_value(self.value).context("a worker's message is damaged")
    }
}

/// What can go between processes, the same to the last bit.
pub trait Parcel: Sized {
    fn pack(self) -> Result<Packed>;

    fn unpack(packed: Packed) -> Result<Self>;
}

/// Numbers as bytes that arrive as they are.
pub fn to_le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The inverse of [`to_le_bytes`].
pub fn from_le_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// What is computed in a pass. It changes nothing that others see.
pub trait Stage {
    /// Its name among the stages of a task, and what the bar says.
    const LABEL: &'static str;
    /// Batches that a worker holds at most: one is computed, others are being made ready.
    const DEPTH: usize = 3;
    /// Whether [`Self::work`] only asks the device for a batch, and what it comes to is waited for when it is packed: then
    /// the next batch is asked for before that.
    const IS_DEFERRED: bool = false;

    /// What is computed together.
    type Batch: Serialize + DeserializeOwned;
    /// What is made ready before a batch's turn: pictures that are being decoded.
    type Ready;
    type Model;
    /// What a batch comes to.
    type Made: Parcel;

    /// The name of the model that a batch needs.
    fn model(&self, batch: &Self::Batch) -> String;

    fn load(&self, name: &str) -> Result<Self::Model>;

    /// Starts what needs no device, in the background.
    fn prepare(&self, batch: &Self::Batch) -> Self::Ready;

    fn work(&self, batch: &Self::Batch, ready: Self::Ready, model: &Self::Model) -> Result<Self::Made>;

    /// What a batch comes to that no worker survived.
    ///
    /// # Errors
    /// Where its parts cannot fail alone: then the reason.
    fn lost(&self, batch: &Self::Batch, reason: &str) -> Result<Self::Made>;
}

/// What is pending of a stage, and where it is written down.
pub trait Ledger {
    type Stage: Stage;

    fn stage(&self) -> &Self::Stage;

    /// Writes down what a batch came to, in whatever order they come; how many things of the bar that were.
    fn record(&mut self, batch: &<Self::Stage as Stage>::Batch, made: <Self::Stage as Stage>::Made) -> Result<usize>;
}

/// Computes and records the batches in this process; `done` hears how many things are.
pub fn alone<L: Ledger>(
    ledger: &mut L,
    batches: &[<L::Stage as Stage>::Batch],
    mut done: impl FnMut(usize),
) -> Result<()> {
    let mut loaded = Loaded::default();
    let (mut ready, mut upcoming) = (VecDeque::new(), batches.iter());
    for batch in batches {
        let stage = ledger.stage();
        ready.extend(upcoming.by_ref().take(AHEAD + 1 - ready.len()).map(|batch| stage.prepare(batch)));
        let Some(ready) = ready.pop_front() else { break };
        let model = loaded.get(stage, &stage.model(batch))?;
        let made = during("computing", || stage.work(batch, ready, model))?;
        done(during("recording", || ledger.record(batch, made))?);
    }
    loaded.forget();
    Ok(())
}

/// The one model that memory holds at a time.
pub(super) struct Loaded<M>(Option<(String, M)>);

impl<M> Default for Loaded<M> {
    fn default() -> Self {
        Self(None)
    }
}

impl<M> Loaded<M> {
    /// The model of this name; the old one goes before the new one comes.
    pub(super) fn get<S: Stage<Model = M>>(&mut self, stage: &S, name: &str) -> Result<&M> {
        if self.0.as_ref().is_none_or(|(held, _)| held != name) {
            self.forget();
            self.0 = Some((name.to_string(), during("loading", || stage.load(name))?));
        }
        self.0.as_ref().map(|(_, model)| model).context("no model is loaded")
    }

    pub(super) fn forget(&mut self) {
        if self.0.take().is_some() {
            shim::empty_cache();
        }
    }
}
