//! One pass over the items of a run, batch by batch: the same loop for whatever is computed.
//!
//! The batches follow from the plan alone, never from what is there already: a batch in which something is missing is
//! computed whole, so that no result depends on where a run was stopped. [`Stage::work`] computes and changes nothing;
//! [`Stage::record`] writes down.

use anyhow::Result;
use image::RgbImage;

use super::progress::Progress;
use crate::runtime::shim;

/// Pictures as they come out of the decoders, in the order of the batches.
pub type Decoded = Box<dyn Iterator<Item = Result<RgbImage>>>;

/// What is computed in a pass.
pub trait Stage {
    /// What the bar says.
    const LABEL: &'static str;

    /// What is computed together.
    type Batch;
    type Model;
    /// What a batch comes to.
    type Made;

    /// All batches, those that need the same model one after the other.
    fn batches(&self) -> Vec<Self::Batch>;

    /// Whether something of the batch is not there yet.
    fn is_pending(&self, batch: &Self::Batch) -> bool;

    /// The name of the model that a batch needs.
    fn model<'b>(&self, batch: &'b Self::Batch) -> &'b str;

    fn load(&self, name: &str) -> Result<Self::Model>;

    /// Starts to decode the pictures of these batches, [`Self::pictures`] of each.
    fn decode(&self, batches: &[Self::Batch]) -> Decoded;

    fn pictures(&self, batch: &Self::Batch) -> usize;

    /// How many things the bar counts, and how many of them are there already.
    fn extent(&self, pending: &[Self::Batch]) -> (usize, usize);

    fn work(&self, batch: &Self::Batch, pictures: Vec<Result<RgbImage>>, model: &Self::Model) -> Result<Self::Made>;

    /// Writes down what a batch came to; how many things of the bar that were.
    fn record(&mut self, batch: &Self::Batch, made: Self::Made) -> Result<usize>;
}

/// Computes and records what is pending.
pub fn pass<S: Stage>(stage: &mut S, progress: Progress) -> Result<()> {
    let batches: Vec<S::Batch> = stage.batches().into_iter().filter(|batch| stage.is_pending(batch)).collect();
    let (all, before) = stage.extent(&batches);
    let bar = progress.bar(S::LABEL, all, before);
    let mut decoded = stage.decode(&batches);
    let mut loaded: Option<(&str, S::Model)> = None;
    for batch in &batches {
        let name = stage.model(batch);
        let model = match loaded.take() {
            Some((held, model)) if held == name => model,
            other => {
                // The old one goes before the new one comes: memory holds one at a time.
                drop(other);
                shim::empty_cache();
                stage.load(name)?
            }
        };
        let pictures = decoded.by_ref().take(stage.pictures(batch)).collect();
        let made = stage.work(batch, pictures, &model)?;
        loaded = Some((name, model));
        bar.inc(stage.record(batch, made)? as u64);
    }
    drop((bar, loaded));
    shim::empty_cache();
    Ok(())
}
