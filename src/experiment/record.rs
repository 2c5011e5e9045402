//! The run folder: what is in it, who may write to it, and the thread that does.
//!
//! A picture is recorded in this order: its file, its feature, its row. So a row says that the rest
//! is there, and a run that is stopped anywhere continues behind the last row.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use image::RgbImage;
use rayon::prelude::*;

use super::features::{FeatureStore, Features};
use super::settings::Settings;
use crate::error::usage;
use crate::images;
use crate::run::guard;
use crate::run::journal::Journal;
use crate::run::style::ItemRow;
use crate::runtime::write_whole;

/// A run folder that this process alone may write to.
#[derive(Debug)]
pub struct RunFolder {
    pub dir: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes or continues the folder. Its configuration is written first; a folder that holds
    /// another configuration, or links, is wrong usage.
    pub fn open<S: Settings>(dir: &Path, config: &S) -> Result<Self> {
        let shown = dir.display();
        fs::create_dir_all(dir).with_context(|| format!("cannot make the run folder {shown}"))?;
        guard::check(dir)?;
        let Some(lock) = guard::hold(dir)? else {
            return Err(usage(format!("{shown}: another process is writing this run")));
        };
        let file = dir.join("config.toml");
        if file.exists() {
            let held = S::from_run(&file)?;
            if let Some(difference) = difference(&held, config)? {
                return Err(usage(format!("{shown} holds another run: {difference}; choose another --out")));
            }
        } else if dir.join("items.csv").exists() {
            return Err(usage(format!("{shown} has an items.csv but no config.toml: choose another --out")));
        }
        let folder = Self { dir: dir.to_path_buf(), _lock: lock };
        guard::tidy(dir)?;
        let text = toml::to_string(config)?;
        write_whole(&file, |file| Ok(std::io::Write::write_all(file, text.as_bytes())?))?;
        Ok(folder)
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    /// Makes a folder inside.
    pub fn make(&self, relative: &str) -> Result<()> {
        let path = self.path(relative);
        fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))
    }
}

/// What differs between two configurations in a way that changes results, as `KEY is A there, B here`.
pub fn difference<S: Settings>(held: &S, asked: &S) -> Result<Option<String>> {
    let held = held.but_for_what_may_change(asked);
    let (mut before, mut now) = (Vec::new(), Vec::new());
    flatten("", &toml::Value::try_from(&held)?, &mut before);
    flatten("", &toml::Value::try_from(asked)?, &mut now);
    let value = |list: &[(String, String)], key: &str| {
        list.iter().find(|(name, _)| name == key).map_or("not set".to_string(), |(_, value)| value.clone())
    };
    let first = before.iter().chain(&now).map(|(key, _)| key).find(|key| value(&before, key) != value(&now, key));
    Ok(first.map(|key| format!("{key} is {} there and {} here", value(&before, key), value(&now, key))))
}

/// A configuration as dotted keys.
fn flatten(prefix: &str, value: &toml::Value, into: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                flatten(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, into);
            }
        }
        other => into.push((prefix.to_string(), other.to_string())),
    }
}

/// Pictures of one batch, ready to be recorded.
#[derive(Debug, Default)]
pub struct Finished {
    pub rows: Vec<ItemRow>,
    pub pictures: Vec<(PathBuf, RgbImage)>,
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
    finished.pictures.par_iter().try_for_each(|(path, picture)| images::save(picture, path))?;
    if !finished.features.is_empty() {
        store.add(&finished.features)?;
    }
    journal.append(&finished.rows)
}
