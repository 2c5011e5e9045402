//! Files as memory, and one line where the memory is gone: what a map reads beyond the end of a file
//! that was shortened meanwhile ends in the signal SIGBUS, which by itself ends a program without a word.

use std::fs::File;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

use anyhow::{Result, bail};
use memmap2::{Advice, MmapMut, MmapOptions};

/// A file that is open and mapped. The map is private: writing into it never reaches the file.
#[derive(Debug)]
pub struct MappedFile {
    // Dropped in this order: the place is forgotten before its addresses can be another map's.
    _place: Registered,
    map: MmapMut,
    file: File,
}

impl MappedFile {
    /// Maps a whole file. A file that is shortened later ends the program with status 1 and a line that names
    /// it, at the moment when one of the missing bytes is read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            bail!("not a file");
        }
        // SAFETY: the map is private, so nothing that is written to it reaches the file. Another process may
        // change the file: the bytes are plain numbers and text, of which every value is valid, and where they
        // are gone the handler below ends the process.
        let map = unsafe { MmapOptions::new().no_reserve_swap().map_copy(&file)? };
        Ok(Self { _place: Registered::new(&map, path), map, file })
    }

    /// The open file, for reading without the map.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Lets the system read ahead, as all of the file will be used.
    pub fn read_ahead(&self) {
        // Only a hint.
        let _ = self.map.advise(Advice::WillNeed);
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// The addresses of a map, and what is said when its file ends inside them. Places are used again, never freed:
/// the handler may walk over them at any time.
#[derive(Debug, Default)]
struct Place {
    /// 0 = free.
    start: AtomicUsize,
    end: AtomicUsize,
    line: AtomicPtr<Vec<u8>>,
    next: AtomicPtr<Place>,
}

static FIRST: AtomicPtr<Place> = AtomicPtr::new(std::ptr::null_mut());
static REGISTERING: Mutex<()> = Mutex::new(());

/// A place that is taken as long as this lives.
#[derive(Debug)]
struct Registered(&'static Place);

impl Registered {
    fn new(map: &[u8], path: &Path) -> Self {
        handle_bus_errors();
        let mut line = b"error: ".to_vec();
        line.extend(path.as_os_str().as_bytes());
        line.extend(
            b": a part of the file is gone or cannot be read any more: was it shortened or replaced while it was in \
              use? Make it whole and start again\n",
        );
        let _alone = REGISTERING.lock().unwrap_or_else(PoisonError::into_inner);
        let place = free_place();
        place.line.store(Box::into_raw(Box::new(line)), Ordering::Relaxed);
        // A page is mapped as a whole, so instructions may read a little further.
        place.end.store((map.as_ptr() as usize + map.len()).next_multiple_of(4096), Ordering::Relaxed);
        place.start.store(map.as_ptr() as usize, Ordering::Release);
        Self(place)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
        let line = self.0.line.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: `new` made it with Box. The handler reads the line of a map only while a thread uses that map,
        // and then its owner is not dropped.
        drop(unsafe { Box::from_raw(line) });
    }
}

/// A place that nobody uses; the caller holds the lock until it is taken.
fn free_place() -> &'static Place {
    for place in places() {
        if place.start.load(Ordering::Relaxed) == 0 && place.line.load(Ordering::Relaxed).is_null() {
            return place;
        }
    }
    let place: &'static mut Place = Box::leak(Box::default());
    place.next = AtomicPtr::new(FIRST.load(Ordering::Relaxed));
    FIRST.store(std::ptr::from_mut(place), Ordering::Release);
    place
}

/// Every place there is. Neither locks nor memory are asked for, so a signal handler may go through them.
fn places() -> impl Iterator<Item = &'static Place> {
    // SAFETY: places are never freed, and each is whole before it is linked.
    let at = |place: &AtomicPtr<Place>| unsafe { place.load(Ordering::Acquire).as_ref() };
    std::iter::successors(at(&FIRST), move |place| at(&place.next))
}

/// What handled the signal before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

fn handle_bus_errors() {
    static ONCE: Once = Once::new();
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
    // SAFETY: both actions are whole, and the handler calls only what is allowed in one.
    ONCE.call_once(|| unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) != 0 || BEFORE.set(before).is_err() {
            return;
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    });
}

extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the system gives a whole siginfo_t, and of a SIGBUS that it sends itself (a code above 0) the address.
    let (by_system, address) = unsafe { ((*info).si_code > 0, (*info).si_addr() as usize) };
    if by_system {
        for place in places() {
            let start = place.start.load(Ordering::Acquire);
            if start == 0 || !(start..place.end.load(Ordering::Relaxed)).contains(&address) {
                continue;
            }
            // SAFETY: the line lives as long as the map, which the thread that was stopped here is using.
            if let Some(line) = unsafe { place.line.load(Ordering::Relaxed).as_ref() } {
                // SAFETY: write and _exit may be called in a signal handler. Destructors are left out on purpose:
                // other threads are still at work, and nothing on disk is ever half-written.
                unsafe {
                    libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
                    libc::_exit(1)
                }
            }
        }
    }
    // Not a map of ours: whoever handled the signal before gets it again.
    if let Some(before) = BEFORE.get() {
        // SAFETY: sigaction and raise may be called in a signal handler.
        unsafe {
            libc::sigaction(signal, before, std::ptr::null_mut());
            if !by_system {
                libc::raise(signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> usize {
        places().filter(|place| place.start.load(Ordering::Relaxed) != 0).count()
    }

    #[test]
    fn places_are_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [7; 10_000]).unwrap();
        let map = MappedFile::open(&path).unwrap();
        assert_eq!(map[9_999], 7);
        let start = map.as_ptr() as usize;
        let knows = || places().any(|place| place.start.load(Ordering::Relaxed) == start);
        assert!(knows() && taken() >= 1);
        drop(map);
        assert!(!knows());
        // Other tests map files meanwhile, a few at a time.
        for _ in 0..1000 {
            MappedFile::open(&path).unwrap();
        }
        assert!(places().count() < 500);
        assert!(MappedFile::open(folder.path()).is_err());
    }
}
