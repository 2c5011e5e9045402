//! Decoding ahead on all cores while the device works.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Result, anyhow};
use image::RgbImage;

use super::load;

/// Iterates over the pictures in the order of `paths`, with up to `ahead` of them decoding or
/// decoded and waiting, so that memory stays bounded. Dropping it early is fine.
pub fn stream(paths: impl IntoIterator<Item = PathBuf>, ahead: usize) -> Prefetch {
    let paths: VecDeque<PathBuf> = paths.into_iter().collect();
    Prefetch { paths, ahead: ahead.max(1), waiting: VecDeque::new() }
}

/// See [`stream`].
pub struct Prefetch {
    paths: VecDeque<PathBuf>,
    ahead: usize,
    waiting: VecDeque<(PathBuf, Receiver<Result<RgbImage>>)>,
}

impl Prefetch {
    fn fill(&mut self) {
        while self.waiting.len() < self.ahead
            && let Some(path) = self.paths.pop_front()
        {
            let (sender, receiver) = sync_channel(1);
            let job = path.clone();
            rayon::spawn(move || {
                // Nobody listens when the iterator was dropped.
                let _ = sender.send(load(&job));
            });
            self.waiting.push_back((path, receiver));
        }
    }
}

impl Iterator for Prefetch {
    type Item = (PathBuf, Result<RgbImage>);

    fn next(&mut self) -> Option<Self::Item> {
        // A worker that waited for its own pool could wait for ever.
        if rayon::current_thread_index().is_some() {
            let path = self.waiting.pop_front().map(|(path, _)| path).or_else(|| self.paths.pop_front())?;
            let image = load(&path);
            return Some((path, image));
        }
        self.fill();
        let (path, receiver) = self.waiting.pop_front()?;
        let image = receiver.recv().unwrap_or_else(|_| Err(anyhow!("{}: the decoder stopped", path.display())));
        self.fill();
        Some((path, image))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.paths.len() + self.waiting.len();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Prefetch {}
