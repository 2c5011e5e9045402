//! One pass over the items of a run, batch by batch, in this process or by workers.
//!
//! The batches follow from the plan alone, never from what is there already or from who computes them: a batch in which
//! something is missing is computed whole, so that no result depends on where a run was stopped.

use std::cell::RefCell;
use std::path::PathBuf;

use anyhow::Result;
use image::RgbImage;

use super::progress::Progress;
use crate::images;
use crate::runtime::during;
use crate::workers::{Crew, Hint, Ledger, Stage, alone};

/// Pictures as they come out of the decoders, in the order of a batch.
pub type Decoded = Box<dyn Iterator<Item = Result<RgbImage>>>;

/// The batches of a ledger's stage.
type Batch<L> = <<L as Ledger>::Stage as Stage>::Batch;

/// A pass over a whole run.
pub trait Pass: Ledger {
    /// All batches, those that need the same model one after the other.
    fn batches(&self) -> Vec<Batch<Self>>;

    /// Whether something of the batch is not there yet.
    fn is_pending(&self, batch: &Batch<Self>) -> bool;

    /// How many things the bar counts, and how many of them are there already.
    fn extent(&self, pending: &[Batch<Self>]) -> (usize, usize);
}

/// Computes and records what is pending; by the workers, where there are some, which `next` tells what comes then.
pub fn pass<P: Pass>(
    pass: &mut P,
    progress: Progress,
    crew: &RefCell<Option<Crew>>,
    next: Option<&Hint>,
) -> Result<()> {
    let batches: Vec<Batch<P>> = pass.batches().into_iter().filter(|batch| pass.is_pending(batch)).collect();
    let (all, before) = pass.extent(&batches);
    let bar = progress.bar(P::Stage::LABEL, all, before);
    let done = |count| bar.inc(count as u64);
    during(P::Stage::LABEL, || match crew.borrow_mut().as_mut() {
        Some(crew) => crew.pass(pass, &batches, next, done),
        None => alone(pass, &batches, done),
    })
}

/// What the workers may load for a pass, once they have nothing else to do.
pub fn hint<P: Pass>(pass: &P) -> Option<Hint> {
    let first = pass.batches().into_iter().find(|batch| pass.is_pending(batch))?;
    Some(Hint { stage: P::Stage::LABEL, model: pass.stage().model(&first) })
}

/// Starts to decode the pictures of a batch.
pub fn decode(paths: Vec<PathBuf>) -> Decoded {
    let count = paths.len();
    Box::new(images::stream(paths, count).map(|(_, picture)| picture))
}
