//! The thread that writes the pictures of a run.
//!
//! A picture is recorded in this order: its file, its feature, its row. So a row says that the rest
//! is there, and a run that is stopped anywhere continues behind the last row.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::features::{FeatureStore, Features};
use crate::images::{self, Text};
use crate::pipelines::KEYWORDS;
use crate::run::csv::{from_bytes, to_bytes};
use crate::run::journal::Journal;
use crate::run::style::ItemRow;
use crate::workers::{Packed, Parcel, from_le_bytes, to_le_bytes};

/// A picture, where it goes, and what its file says of it.
#[derive(Debug)]
pub struct Drawn {
    /// In the run folder.
    pub path: String,
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

/// What [`Finished`] is beside its bytes: the rows as a table, then the pixels of the pictures, then the features.
#[derive(Serialize, Deserialize)]
struct Outline {
    pictures: Vec<Frame>,
    features: Vec<String>,
}

/// A picture without its pixels.
#[derive(Serialize, Deserialize)]
struct Frame {
    path: String,
    width: u32,
    height: u32,
    texts: Vec<(String, String)>,
}

/// A text of a picture's file, from another process.
fn known((keyword, text): (String, String)) -> Result<Text> {
    let known = KEYWORDS.into_iter().find(|known| *known == keyword);
    Ok((known.context("a text of a worker's picture has no known keyword")?, text))
}

impl Parcel for Finished {
    fn pack(self) -> Result<Packed> {
        let of = |drawn: &Drawn| {
            let Drawn { path, image, texts } = drawn;
            let texts = texts.iter().map(|(keyword, text)| (keyword.to_string(), text.clone())).collect();
            Frame { path: path.clone(), width: image.width(), height: image.height(), texts }
        };
        let outline = Outline {
            pictures: self.pictures.iter().map(of).collect(),
            features: self.features.keys().cloned().collect(),
        };
        // A table has the numbers to the last digit.
        let mut blobs = vec![if self.rows.is_empty() { Vec::new() } else { to_bytes(&self.rows, true)? }];
        blobs.extend(self.pictures.into_iter().map(|drawn| drawn.image.into_raw()));
        blobs.extend(self.features.values().map(|row| to_le_bytes(row)));
        Ok(Packed { blobs, ..Packed::of(&outline)? })
    }

    fn unpack(mut packed: Packed) -> Result<Self> {
        let mut blobs = std::mem::take(&mut packed.blobs).into_iter();
        let mut next = || blobs.next().context("a worker's message is cut off");
        let outline: Outline = packed.read()?;
        let table = next()?;
        let rows = if table.is_empty() { Vec::new() } else { from_bytes(&table)? };
        let mut finished = Self { rows, ..Self::default() };
        for Frame { path, width, height, texts } in outline.pictures {
            let image = RgbImage::from_raw(width, height, next()?).context("a picture of a worker is cut off")?;
            let texts = texts.into_iter().map(known).collect::<Result<_>>()?;
            finished.pictures.push(Drawn { path, image, texts });
        }
        for name in outline.features {
            finished.features.insert(name, from_le_bytes(&next()?));
        }
        Ok(finished)
    }
}

/// A thread that encodes and writes, so that the device need not wait.
#[derive(Debug)]
pub struct Recorder {
    sender: Option<SyncSender<Finished>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Recorder {
    pub fn start(dir: PathBuf, journal: Journal<ItemRow>, store: FeatureStore) -> Self {
        // Two batches may wait: enough to keep the device busy, little enough to bound memory.
        let (sender, receiver) = sync_channel::<Finished>(2);
        let thread = std::thread::spawn(move || {
            let (mut journal, mut store) = (journal, store);
            for finished in receiver {
                record(&dir, finished, &mut journal, &mut store)?;
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

fn record(dir: &Path, finished: Finished, journal: &mut Journal<ItemRow>, store: &mut FeatureStore) -> Result<()> {
    let save = |drawn: &Drawn| images::save_with(&drawn.image, dir.join(&drawn.path), &drawn.texts);
    finished.pictures.par_iter().try_for_each(save)?;
    if !finished.features.is_empty() {
        store.add(&finished.features)?;
    }
    journal.append(&finished.rows)
}
