//! Bytes of a file on their way to a device: many threads read them into a small ring of buffers, and the
//! device fetches from one while the next is filled. Who asks for a tensor waits for neither, where the device
//! itself can wait for the threads: the next tensor is read while this one is thought about.
//!
//! The plain way, a copy from the memory map, has one thread wait for a page of the file, copy it to a
//! hidden buffer and wait for the device, by turns.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::DerefMut;
use std::slice;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::readers::Filling;
pub use super::readers::Read;
use crate::runtime::upload::{Pinned, Reached, Uploads};

/// Size of a buffer, and how many there are: enough that reading and fetching never wait for each other. Such memory takes
/// half a millisecond a megabyte to get.
const BUFFER: usize = 8 << 20;
const BUFFERS: usize = 6;
/// Where the bytes of a tensor start in a buffer.
const ALIGNMENT: usize = 256;
/// Fewer bytes are read at once by who asks for them.
const FEW: usize = 1 << 16;
/// A tensor is cut at a multiple of this: between two numbers.
const WHOLE: usize = 8;
/// Room behind the bytes of a tensor for a word, wherever they end, that turns 1 when they are read.
const BEHIND: usize = 2 * size_of::<AtomicU32>();

/// Where bytes go, and the memory that they can go there from.
pub trait Target {
    type Buffer: DerefMut<Target = [u8]>;
    /// A place in the sequence of copies.
    type Mark;

    /// Memory of this many bytes that copies can start from.
    fn buffer(&self, bytes: usize) -> Result<Self::Buffer>;

    /// Has the copies that are asked for from now on wait until the word is 1, and returns at once. False where the target
    /// cannot do that.
    ///
    /// # Safety
    /// The word must lie in a buffer, and stay until a later mark is reached.
    unsafe fn hold(&self, word: *const AtomicU32) -> bool;

    /// Asks for a copy without waiting for it. Copies are made in the order in which they are asked for.
    ///
    /// # Safety
    /// `to` must have room for `length` bytes, and those at `from` must stay until a later mark is reached; before it is made,
    /// they may be written.
    unsafe fn copy(&self, from: *const u8, to: *mut u8, length: usize) -> Result<()>;

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
    ring: Vec<Stage<T>>,
    current: usize,
    used: usize,
}

/// A buffer of the ring, and what must be over before it is written again.
struct Stage<T: Target> {
    buffer: T::Buffer,
    filled: Vec<Arc<Filling>>,
    copied: Option<T::Mark>,
}

/// Bytes that were asked for, and may still be read.
#[derive(Default)]
#[must_use]
pub struct Sent {
    parts: Vec<Arc<Filling>>,
    /// Whether those who read look at what they read.
    pub(super) is_scanned: bool,
}

impl Sent {
    /// Waits until all are read.
    ///
    /// # Errors
    /// What went wrong; then anything may have arrived.
    pub fn read(self) -> io::Result<()> {
        // All of them, so that nothing is read any more.
        let outcomes: Vec<io::Result<()>> = self.parts.iter().map(|filling| filling.outcome()).collect();
        outcomes.into_iter().collect()
    }
}

impl<T: Target> Staging<T> {
    /// At most `most` buffers of `size` bytes; each is taken when it is first needed.
    pub fn new(target: T, size: usize, most: usize) -> Self {
        let (size, most) = (size.max(WHOLE) + BEHIND, most.max(1));
        Self { target, size, most, ring: Vec::new(), current: 0, used: 0 }
    }

    /// Sends `length` bytes to `to`. `read` fills a piece with the bytes from an offset (0 to `length`)
    /// on, in several threads at a time. What comes later in the target's order finds them there, if
    /// nothing went wrong with what this gives.
    ///
    /// # Safety
    /// `to` must have room for `length` bytes until they have arrived.
    pub unsafe fn send(&mut self, to: *mut u8, length: usize, read: &Read) -> Result<Sent> {
        let (mut offset, mut sent) = (0, Sent::default());
        while offset < length {
            if self.ring.is_empty() || self.used + BEHIND + WHOLE > self.size {
                self.advance()?;
            }
            let count = match (length - offset, self.size - self.used - BEHIND) {
                (left, room) if left <= room => left,
                (_, room) => room - room % WHOLE,
            };
            // SAFETY: the rest of `to` has room, as the caller promises.
            unsafe { self.send_part(to.add(offset), count, offset, read, &mut sent)? };
            offset += count;
        }
        Ok(sent)
    }

    /// Sends as much as has room in the current buffer.
    ///
    /// # Safety
    /// As of [`Self::send`].
    unsafe fn send_part(
        &mut self,
        to: *mut u8,
        count: usize,
        offset: usize,
        read: &Read,
        sent: &mut Sent,
    ) -> Result<()> {
        let stage = &mut self.ring[self.current];
        // SAFETY: inside the buffer, behind all that is in use. It is written again only when `advance` has seen that the
        // threads are done and that the device has reached a mark behind this copy.
        unsafe {
            let from = stage.buffer.as_mut_ptr().add(self.used);
            if count <= FEW {
                read(offset, slice::from_raw_parts_mut(from, count))?;
            } else {
                let behind = from.add(count);
                let word = behind.add(behind.align_offset(align_of::<AtomicU32>())).cast::<AtomicU32>();
                word.write(AtomicU32::new(0));
                let filling = Filling::start(from, count, offset, read, word);
                stage.filled.push(filling.clone());
                if !self.target.hold(word) {
                    filling.wait();
                }
                sent.parts.push(filling);
            }
            self.target.copy(from, to, count)?;
        }
        self.used = (self.used + count + BEHIND).next_multiple_of(ALIGNMENT);
        Ok(())
    }

    /// Goes on to the next buffer once the device has fetched what is in it.
    fn advance(&mut self) -> Result<()> {
        if let Some(stage) = self.ring.get_mut(self.current) {
            stage.copied = Some(self.target.mark()?);
            self.current = (self.current + 1) % self.most;
        }
        match self.ring.get_mut(self.current) {
            Some(stage) => {
                stage.filled.drain(..).for_each(|filling| filling.wait());
                stage.copied.take().map_or(Ok(()), |mark| self.target.wait(mark))?;
            }
            None => {
                let buffer = self.target.buffer(self.size)?;
                self.ring.push(Stage { buffer, filled: Vec::new(), copied: None });
            }
        }
        self.used = 0;
        Ok(())
    }
}

impl<T: Target> Drop for Staging<T> {
    fn drop(&mut self) {
        // The buffers go next.
        self.ring.iter().flat_map(|stage| &stage.filled).for_each(|filling| filling.wait());
        let _ = self.target.mark().and_then(|mark| self.target.wait(mark));
    }
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

    unsafe fn hold(&self, word: *const AtomicU32) -> bool {
        // SAFETY: a buffer is pinned memory; the rest as the caller promises.
        unsafe { self.hold(word) }
    }

    unsafe fn copy(&self, from: *const u8, to: *mut u8, length: usize) -> Result<()> {
        // SAFETY: as the caller promises.
        unsafe { self.start(from, to, length) }
    }

    fn mark(&self) -> Result<Reached> {
        self.reached()
    }

    fn wait(&self, mark: Reached) -> Result<()> {
        mark.wait()
    }
}
