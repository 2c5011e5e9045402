//! Threads that read files into memory while whoever asked goes on.

use std::io;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Fills a piece of memory with the bytes from an offset on.
pub type Read = Arc<dyn Fn(usize, &mut [u8]) -> io::Result<()> + Send + Sync>;

/// What one thread reads at a time: little, so that all have a part of a middling tensor.
const PIECE: usize = 1 << 19;
/// More threads than these read no faster, and others have work too.
const MOST_READERS: usize = 12;

/// A stretch of memory that the threads fill.
pub(super) struct Filling {
    state: Mutex<State>,
    over: Condvar,
    word: Word,
}

struct State {
    /// Pieces that are not read yet.
    left: usize,
    error: Option<io::Error>,
}

/// What turns 1 when all is read.
struct Word(*const AtomicU32);

// SAFETY: atomic, and it lives as long as the filling lasts, as the caller of `start` promises.
unsafe impl Send for Word {}
// SAFETY: as above.
unsafe impl Sync for Word {}

/// A piece of the memory, which one thread writes.
struct Piece {
    at: *mut u8,
    length: usize,
    offset: usize,
}

// SAFETY: nobody else has this memory, as the caller of `start` promises.
unsafe impl Send for Piece {}

impl Filling {
    /// Begins to fill `length` bytes from `at` on with what `read` gives from `offset` on; then `word` becomes 1.
    ///
    /// # Safety
    /// The memory and the word must stay, and the memory be nobody else's, until [`Self::wait`] has returned.
    pub unsafe fn start(at: *mut u8, length: usize, offset: usize, read: &Read, word: *const AtomicU32) -> Arc<Self> {
        let state = Mutex::new(State { left: length.div_ceil(PIECE), error: None });
        let filling = Arc::new(Self { state, over: Condvar::new(), word: Word(word) });
        for start in (0..length).step_by(PIECE) {
            // SAFETY: inside the memory.
            let at = unsafe { at.add(start) };
            let piece = Piece { at, length: PIECE.min(length - start), offset: offset + start };
            let (filling, read) = (filling.clone(), read.clone());
            let work = move || filling.fill(piece, &read);
            match readers() {
                Some(pool) => pool.spawn(work),
                None => work(),
            }
        }
        filling
    }

    fn fill(&self, piece: Piece, read: &Read) {
        // SAFETY: of this piece alone, which no other thread has.
        let bytes = unsafe { slice::from_raw_parts_mut(piece.at, piece.length) };
        let outcome = read(piece.offset, bytes);
        let mut state = self.lock();
        state.left -= 1;
        if let Err(error) = outcome {
            state.error.get_or_insert(error);
        }
        if state.left == 0 {
            // A device looks at the word only, and must find the bytes behind it.
            fence(Ordering::SeqCst);
            // SAFETY: it lives until the end, which others learn below.
            unsafe { (*self.word.0).store(1, Ordering::Release) };
            self.over.notify_all();
        }
    }

    /// Returns when no thread writes there any more.
    pub fn wait(&self) {
        drop(self.wait_locked());
    }

    /// The same.
    ///
    /// # Errors
    /// The first that a thread met, told once.
    pub fn outcome(&self) -> io::Result<()> {
        self.wait_locked().error.take().map_or(Ok(()), Err)
    }

    fn wait_locked(&self) -> MutexGuard<'_, State> {
        self.over.wait_while(self.lock(), |state| state.left > 0).unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads of their own: the common ones may have long queues, of pictures for example.
fn readers() -> Option<&'static ThreadPool> {
    static READERS: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let build = || {
        let threads = rayon::current_num_threads().min(MOST_READERS);
        ThreadPoolBuilder::new().num_threads(threads).thread_name(|_| "reader".to_string()).build().ok()
    };
    READERS.get_or_init(build).as_ref()
}
