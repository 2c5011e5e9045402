//! TensorFloat-32: float32 products of which a GPU's tensor cores read three decimal digits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shim;

/// Whether metric networks may compute so.
static CHOSEN: AtomicBool = AtomicBool::new(false);
/// How many pieces of work that may are under way, in all threads: libtorch's switch is one for the process.
static UNDER_WAY: Mutex<usize> = Mutex::new(0);

/// Whether float32 networks of metrics round what they multiply on a GPU to TensorFloat-32 from now on.
pub fn choose_tf32(on: bool) {
    CHOSEN.store(on, Ordering::Relaxed);
}

/// What [`choose_tf32`] was told last; false before.
pub fn tf32_is_chosen() -> bool {
    CHOSEN.load(Ordering::Relaxed)
}

/// Does the work of a metric's network, in TensorFloat-32 where that is chosen. All else stays float32.
pub fn with_chosen_tf32<T>(work: impl FnOnce() -> T) -> T {
    let _allowed = tf32_is_chosen().then(Allowed::new);
    work()
}

/// Forbids it to all but what is done [`with_chosen_tf32`]: libtorch itself begins with convolutions allowed.
pub(super) fn forbid_tf32() {
    // A device may get ready while another one computes.
    let count = under_way();
    if *count == 0 {
        shim::allow_tf32(false);
    }
}

/// Allowed as long as one of these lives.
struct Allowed;

impl Allowed {
    fn new() -> Self {
        let mut count = under_way();
        if *count == 0 {
            shim::allow_tf32(true);
        }
        *count += 1;
        Self
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        let mut count = under_way();
        *count -= 1;
        if *count == 0 {
            shim::allow_tf32(false);
        }
    }
}

fn under_way() -> MutexGuard<'static, usize> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_allowed_only_where_it_is_chosen() {
        assert!(!shim::tf32_is_allowed() && !with_chosen_tf32(shim::tf32_is_allowed));
        choose_tf32(true);
        let inside = with_chosen_tf32(|| {
            let other = std::thread::spawn(|| with_chosen_tf32(shim::tf32_is_allowed)).join().unwrap();
            [other, shim::tf32_is_allowed()]
        });
        assert_eq!((inside, shim::tf32_is_allowed()), ([true; 2], false));
        choose_tf32(false);
        assert!(!with_chosen_tf32(shim::tf32_is_allowed));
    }
}
