//! Bytes of a file on their way to a device: many threads read them into a small ring of buffers, and the
//! device fetches from one while the next is filled.
//!
//! The plain way, a copy from the memory map, has one thread wait for a page of the file, copy it to a
//! hidden buffer and wait for the device, by turns.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::DerefMut;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Result;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::runtime::upload::{Pinned, Reached, Uploads};

/// Size of a buffer, and how many there are: enough that reading and fetching never wait for each other. Such memory takes
/// half a millisecond a megabyte to get.
const BUFFER: usize = 8 << 20;
const BUFFERS: usize = 4;
/// What one thread reads at a time: little, so that all have a part of a middling tensor.
const PIECE: usize = 1 << 18;
/// Where the bytes of a tensor start in a buffer.
const ALIGNMENT: usize = 256;

/// Where bytes go, and the memory that they can go there from.
pub trait Target {
    type Buffer: DerefMut<Target = [u8]>;
    /// A place in the sequence of copies.
    type Mark;

    /// Memory of this many bytes that copies can start from.
    fn buffer(&self, bytes: usize) -> Result<Self::Buffer>;

    /// Asks for a copy without waiting for it. Copies are made in the order in which they are asked for.
    ///
    /// # Safety
    /// `to` must have room for `from`, and `from` must stay as it is until a later mark is reached.
    unsafe fn copy(&self, from: &[u8], to: *mut u8) -> Result<()>;

    /// The place behind all copies asked for so far.
    fn mark(&self) -> Result<Self::Mark>;

    /// Waits until all copies before the mark are made.
    fn wait(&self, mark: Self::Mark) -> Result<()>;
}

/// The ring of buffers.
pub struct Staging<T: Target> {
    target: T,
    size: usize,
    most: usize,
    /// Buffers so far, and what must be over before each is written again.
    ring: Vec<(T::Buffer, Option<T::Mark>)>,
    current: usize,
    used: usize,
}

impl<T: Target> Staging<T> {
    /// At most `most` buffers of `size` bytes; each is taken when it is first needed.
    pub fn new(target: T, size: usize, most: usize) -> Self {
        Self { target, size: size.max(1), most: most.max(1), ring: Vec::new(), current: 0, used: 0 }
    }

    /// Sends `length` bytes to `to`. `read` fills a piece with the bytes from an offset (0 to `length`)
    /// on, in several threads at a time. Returns when all are read; they arrive in the order of the
    /// target's copies.
    ///
    /// # Safety
    /// `to` must have room for `length` bytes until they have arrived.
    pub unsafe fn send(
        &mut self,
        to: *mut u8,
        length: usize,
        read: impl Fn(usize, &mut [u8]) -> io::Result<()> + Sync,
    ) -> Result<()> {
        let mut sent = 0;
        while sent < length {
            if self.ring.is_empty() || self.used >= self.size {
                self.advance()?;
            }
            let count = (length - sent).min(self.size - self.used);
            let place = &mut self.ring[self.current].0[self.used..self.used + count];
            read_on_all_cores(place, sent, &read)?;
            // SAFETY: the rest of `to` has room, as the caller promises; a buffer is written again only
            // after the mark that `advance` sets behind this copy.
            unsafe { self.target.copy(place, to.add(sent))? };
            sent += count;
            self.used = (self.used + count).next_multiple_of(ALIGNMENT);
        }
        Ok(())
    }

    /// Goes on to the next buffer once the device has fetched what is in it.
    fn advance(&mut self) -> Result<()> {
        if let Some((_, mark)) = self.ring.get_mut(self.current) {
            *mark = Some(self.target.mark()?);
            self.current = (self.current + 1) % self.most;
        }
        match self.ring.get_mut(self.current) {
            Some((_, mark)) => mark.take().map_or(Ok(()), |mark| self.target.wait(mark))?,
            None => self.ring.push((self.target.buffer(self.size)?, None)),
        }
        self.used = 0;
        Ok(())
    }
}

impl<T: Target> Drop for Staging<T> {
    fn drop(&mut self) {
        // The buffers go next.
        let _ = self.target.mark().and_then(|mark| self.target.wait(mark));
    }
}

/// `read` from `offset` on into all of `place`.
fn read_on_all_cores(
    place: &mut [u8],
    offset: usize,
    read: &(impl Fn(usize, &mut [u8]) -> io::Result<()> + Sync),
) -> io::Result<()> {
    // A worker of the common threads that waits takes up other work, which may wait for this ring.
    if place.len() <= PIECE || rayon::current_thread_index().is_some() {
        return read(offset, place);
    }
    let pieces = |place: &mut [u8]| {
        place.par_chunks_mut(PIECE).enumerate().try_for_each(|(i, piece)| read(offset + i * PIECE, piece))
    };
    match readers() {
        Some(pool) => pool.install(|| pieces(place)),
        None => pieces(place),
    }
}

/// Threads of their own: the common ones may have long queues, of pictures for example.
fn readers() -> Option<&'static ThreadPool> {
    static READERS: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let build = || ThreadPoolBuilder::new().num_threads(rayon::current_num_threads()).build().ok();
    READERS.get_or_init(build).as_ref()
}

/// The ring of a device, which one thread uses at a time.
type Ring = Arc<Mutex<Staging<Uploads>>>;

/// Works with the ring of a CUDA device, which is kept for the next tensor; None where there is no CUDA.
pub(super) fn with_ring<R>(device: usize, work: impl FnOnce(&mut Staging<Uploads>) -> Result<R>) -> Option<Result<R>> {
    static RINGS: Mutex<BTreeMap<usize, Ring>> = Mutex::new(BTreeMap::new());
    let ring = match RINGS.lock().unwrap_or_else(PoisonError::into_inner).entry(device) {
        Entry::Occupied(place) => place.get().clone(),
        Entry::Vacant(place) => {
            let staging = Staging::new(Uploads::to(device)?, BUFFER, BUFFERS);
            place.insert(Arc::new(Mutex::new(staging))).clone()
        }
    };
    // Other devices are loaded meanwhile.
    let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
    Some(work(&mut ring))
}

impl Target for Uploads {
    type Buffer = Pinned;
    type Mark = Reached;

    fn buffer(&self, bytes: usize) -> Result<Pinned> {
        self.pinned(bytes)
    }

    unsafe fn copy(&self, from: &[u8], to: *mut u8) -> Result<()> {
        // SAFETY: as the caller promises.
        unsafe { self.start(from, to) }
    }

    fn mark(&self) -> Result<Reached> {
        self.reached()
    }

    fn wait(&self, mark: Reached) -> Result<()> {
        mark.wait()
    }
}
