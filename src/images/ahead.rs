//! Work on pictures that runs ahead of the device on all cores.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Result;
use rayon::prelude::*;
use rayon::{ScopeFifo, ThreadPool, ThreadPoolBuilder};

use crate::runtime::enter_pool_thread;

/// Does `work` on the items in the background, up to `ahead` of them done or being done and waiting, while `consume` takes
/// what comes out, in the items' order, from the function that it is given; None after the last one. The threads are others
/// than those of rayon's own pool: what the device waits for is not done behind pictures of later batches that are decoded there.
pub fn in_order_ahead<T: Sync, R: Send, O>(
    items: &[T],
    ahead: usize,
    work: impl Fn(&T) -> R + Sync,
    consume: impl FnOnce(&mut dyn FnMut() -> Option<R>) -> O,
) -> O {
    if rayon::current_thread_index().is_some() {
        // A thread that waited for its own pool could wait for ever.
        let mut items = items.iter();
        return consume(&mut || items.next().map(&work));
    }
    let work = &work;
    in_scope(|scope| {
        let mut upcoming = items.iter();
        let mut waiting: VecDeque<Receiver<R>> = VecDeque::new();
        consume(&mut || {
            while waiting.len() < ahead.max(1)
                && let Some(item) = upcoming.next()
            {
                let (sender, receiver) = sync_channel(1);
                scope.spawn_fifo(move |_| {
                    // Nobody listens when the consumer has left.
                    let _ = sender.send(work(item));
                });
                waiting.push_back(receiver);
            }
            // Of work that panicked nothing comes; the panic goes on when all is done.
            waiting.pop_front()?.recv().ok()
        })
    })
}

/// What `work` makes of each item, on the same threads, in the items' order: what the device waits for. Several of the errors:
/// one of them.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync + Send) -> Result<Vec<R>> {
    let all = || items.par_iter().map(work).collect();
    match pool() {
        Some(pool) => pool.install(all),
        None => all(),
    }
}

/// Does `work` in a scope of threads that work ahead.
fn in_scope<'a, O>(work: impl FnOnce(&ScopeFifo<'a>) -> O) -> O {
    match pool() {
        Some(pool) => pool.in_place_scope_fifo(work),
        None => rayon::in_place_scope_fifo(work),
    }
}

/// The threads that work ahead; None where the system gives none.
fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let builder = || ThreadPoolBuilder::new().num_threads(rayon::current_num_threads());
    POOL.get_or_init(|| builder().start_handler(|_| enter_pool_thread()).build().ok()).as_ref()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_and_not_far_ahead() {
        let items: Vec<usize> = (0..100).collect();
        let started = AtomicUsize::new(0);
        let work = |item: &usize| {
            started.fetch_add(1, Ordering::SeqCst);
            item * 2
        };
        let taken = in_order_ahead(&items, 8, work, |next| {
            let mut taken = Vec::new();
            while let Some(result) = next() {
                taken.push(result);
                assert!(started.load(Ordering::SeqCst) <= taken.len() + 8);
            }
            taken
        });
        assert_eq!(taken, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        let some = in_order_ahead(&items, 3, |item| *item, |next| [next(), next()]);
        assert_eq!(some, [Some(0), Some(1)]);
        let inside = rayon::scope(|_| in_order_ahead(&items[..2], 3, |item| *item, |next| [next(), next(), next()]));
        assert_eq!(inside, [Some(0), Some(1), None]);
    }

    #[test]
    fn what_is_done_in_parallel_keeps_its_order_and_its_errors() {
        let items: Vec<usize> = (0..100).collect();
        let double = |item: &usize| Ok(item * 2);
        let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
        assert_eq!(in_parallel(&items, double).unwrap(), doubled);
        // Beside pictures that are made ready, and from a thread of either pool.
        let beside =
            in_order_ahead(&items, 8, |item| *item, |next| (next(), in_parallel(&items, double).unwrap(), next()));
        assert_eq!(beside, (Some(0), doubled.clone(), Some(1)));
        assert_eq!(rayon::scope(|_| in_parallel(&items, double).unwrap()), doubled);
        assert_eq!(in_parallel(&[0usize], |_| in_parallel(&items, double)).unwrap(), std::slice::from_ref(&doubled));
        let odd = |item: &usize| if item.is_multiple_of(2) { Ok(*item) } else { Err(anyhow::anyhow!("odd")) };
        assert_eq!(in_parallel(&items, odd).unwrap_err().to_string(), "odd");
    }
}
