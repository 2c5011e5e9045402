//! Decoding ahead on all cores while the device works.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Result, anyhow};
use image::RgbImage;

use super::load;
use crate::runtime::catch_panics;

/// Iterates over the pictures in the order of `paths`, with up to `ahead` of them decoding or
/// decoded and waiting, so that memory stays bounded. Decoding starts at once. Dropping it early is
/// fine.
pub fn stream(paths: impl IntoIterator<Item = PathBuf>, ahead: usize) -> Prefetch {
    stream_with(paths, ahead, |path| load(path))
}

/// The same for pictures that do not lie in files of their own: `load` reads and decodes one.
pub fn stream_with<T: Clone + Send + Sync + 'static>(
    sources: impl IntoIterator<Item = T>,
    ahead: usize,
    load: impl Fn(&T) -> Result<RgbImage> + Send + Sync + 'static,
) -> Prefetch<T> {
    let mut prefetch = Prefetch {
        sources: sources.into_iter().collect(),
        ahead: ahead.max(1),
        load: Arc::new(load),
        waiting: VecDeque::new(),
        dropped: Arc::default(),
    };
    if rayon::current_thread_index().is_none() {
        prefetch.fill();
    }
    prefetch
}

type Load<T> = dyn Fn(&T) -> Result<RgbImage> + Send + Sync;

/// See [`stream`].
pub struct Prefetch<T = PathBuf> {
    sources: VecDeque<T>,
    ahead: usize,
    load: Arc<Load<T>>,
    waiting: VecDeque<(Arc<T>, Receiver<Result<RgbImage>>)>,
    /// Whether nobody wants what is not decoded yet.
    dropped: Arc<AtomicBool>,
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

impl<T: Clone + Send + Sync + 'static> Prefetch<T> {
    fn fill(&mut self) {
        while self.waiting.len() < self.ahead
            && let Some(source) = self.sources.pop_front()
        {
            let (sender, receiver) = sync_channel(1);
            let source = Arc::new(source);
            let (job, load, dropped) = (source.clone(), self.load.clone(), self.dropped.clone());
            rayon::spawn(move || {
                if dropped.load(Ordering::Relaxed) {
                    return;
                }
                // A panic would end the program: rayon has no one to hand it to.
                let picture = catch_panics(|| load(&job));
                drop(job);
                // Nobody listens when the iterator was dropped.
                let _ = sender.send(picture);
            });
            self.waiting.push_back((source, receiver));
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Iterator for Prefetch<T> {
    type Item = (T, Result<RgbImage>);

    fn next(&mut self) -> Option<Self::Item> {
        // A worker that waited for its own pool could wait for ever.
        if rayon::current_thread_index().is_some() {
            let waiting = self.waiting.pop_front().map(|(source, _)| Arc::unwrap_or_clone(source));
            let source = waiting.or_else(|| self.sources.pop_front())?;
            let image = (self.load)(&source);
            return Some((source, image));
        }
        self.fill();
        let (source, receiver) = self.waiting.pop_front()?;
        let image = receiver.recv().unwrap_or_else(|_| Err(anyhow!("the decoder stopped")));
        self.fill();
        Some((Arc::unwrap_or_clone(source), image))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.sources.len() + self.waiting.len();
        (left, Some(left))
    }
}

impl<T: Clone + Send + Sync + 'static> ExactSizeIterator for Prefetch<T> {}
