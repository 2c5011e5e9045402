//! The thread that writes the pictures of a run.
//!
//! A picture is recorded in this order: its file, its feature, its row. So a row says that the rest
//! is there, and a run that is stopped anywhere continues behind the last row.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};
use image::RgbImage;
use rayon::prelude::*;

use super::features::{FeatureStore, Features};
use crate::images::{self, Text};
use crate::run::journal::Journal;
use crate::run::style::ItemRow;

/// A picture, where it goes, and what its file says of it.
#[derive(Debug)]
pub struct Drawn {
    pub path: PathBuf,
    pub image: RgbImage,
    pub texts: Vec<Text>,
}

/// Pictures of one batch, ready to be recorded.
#[derive(Debug, Default)]
pub struct Finished {
    pub rows: Vec<ItemRow>,
    pub pictures: Vec<Drawn>,
    pub features: Features,
}

/// A thread that encodes and writes, so that the device need not wait.
#[derive(Debug)]
pub struct Recorder {
    sender: Option<SyncSender<Finished>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Recorder {
    pub fn start(journal: Journal<ItemRow>, store: FeatureStore) -> Self {
        // Two batches may wait: enough to keep the device busy, little enough to bound memory.
        let (sender, receiver) = sync_channel::<Finished>(2);
        let thread = std::thread::spawn(move || {
            let (mut journal, mut store) = (journal, store);
            for finished in receiver {
                record(finished, &mut journal, &mut store)?;
            }
            Ok(())
        });
        Self { sender: Some(sender), thread: Some(thread) }
    }

    /// Hands a batch over; an error of an earlier one comes back here.
    pub fn send(&mut self, finished: Finished) -> Result<()> {
        match self.sender.as_ref().map(|sender| sender.send(finished)) {
            Some(Ok(())) => Ok(()),
            // The thread ends early only on an error.
            _ => self.stop().and(Err(anyhow!("the recording thread is gone"))),
        }
    }

    /// Waits until everything is written.
    pub fn finish(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        self.sender = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(anyhow!("the recording thread failed")),
            None => Ok(()),
        }
    }
}

/// Leaving early (an error elsewhere) still writes what was handed over.
impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn record(finished: Finished, journal: &mut Journal<ItemRow>, store: &mut FeatureStore) -> Result<()> {
    finished.pictures.par_iter().try_for_each(|drawn| images::save_with(&drawn.image, &drawn.path, &drawn.texts))?;
    if !finished.features.is_empty() {
        store.add(&finished.features)?;
    }
    journal.append(&finished.rows)
}
