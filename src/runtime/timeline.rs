//! Where the time of a long command goes: stretches of its main thread, noted where somebody asked for it.

use std::cell::RefCell;
use std::time::Instant;

use super::machine::process_seconds;

/// A stretch of time of the thread that asked for notes.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    pub name: &'static str,
    /// Stretches that it lies in.
    pub depth: usize,
    /// Seconds since the process was started.
    pub start: f64,
    pub end: f64,
    /// Seconds of it that lie in no stretch within it.
    pub own: f64,
}

impl Stretch {
    pub fn seconds(&self) -> f64 {
        self.end - self.start
    }
}

#[derive(Debug)]
struct Notes {
    began: Instant,
    /// Of the process, at `began`.
    age: f64,
    /// Those that are not over: when they began, and the seconds of what lay within them.
    open: Vec<(f64, f64)>,
    over: Vec<Stretch>,
}

thread_local!(static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) });

/// From now on the stretches of this thread are noted.
pub fn note_times() {
    let age = process_seconds().unwrap_or(0.0);
    let notes = Notes { began: Instant::now(), age, open: Vec::new(), over: Vec::new() };
    NOTES.set(Some(notes));
}

/// What was noted, in the order in which the stretches ended. Nothing more is noted.
pub fn noted_times() -> Vec<Stretch> {
    NOTES.take().map(|notes| notes.over).unwrap_or_default()
}

/// Does `work`; where this thread's times are noted, under this name. Costs nothing elsewhere.
pub fn during<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    NOTES.with_borrow_mut(|notes| {
        if let Some(notes) = notes {
            let now = notes.now();
            notes.open.push((now, 0.0));
        }
    });
    let _open = Open(name);
    work()
}

/// Ends a stretch, also where a panic of libtorch comes through.
struct Open(&'static str);

impl Drop for Open {
    fn drop(&mut self) {
        NOTES.with_borrow_mut(|notes| {
            let Some(notes) = notes else { return };
            let end = notes.now();
            let Some((start, within)) = notes.open.pop() else { return };
            if let Some((_, within)) = notes.open.last_mut() {
                *within += end - start;
            }
            let depth = notes.open.len();
            notes.over.push(Stretch { name: self.0, depth, start, end, own: end - start - within });
        });
    }
}

impl Notes {
    fn now(&self) -> f64 {
        self.age + self.began.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn stretches_lie_in_each_other_and_their_own_time_is_what_is_left() {
        assert_eq!(during("before", || 3), 3);
        note_times();
        during("outer", || {
            std::thread::sleep(Duration::from_millis(20));
            during("inner", || std::thread::sleep(Duration::from_millis(40)));
            // Another thread has notes of its own, or none.
            std::thread::scope(|scope| scope.spawn(|| during("elsewhere", || ())).join().unwrap());
        });
        let panicked = std::panic::catch_unwind(|| during("broken", || panic!("as libtorch does")));
        assert!(panicked.is_err());
        let noted = noted_times();
        let names: Vec<(&str, usize)> = noted.iter().map(|stretch| (stretch.name, stretch.depth)).collect();
        assert_eq!(names, [("inner", 1), ("outer", 0), ("broken", 0)]);
        let (inner, outer) = (&noted[0], &noted[1]);
        assert!(inner.own >= 0.04 && outer.own >= 0.02 && outer.seconds() >= 0.06);
        assert!((outer.own + inner.seconds() - outer.seconds()).abs() < 1e-9);
        assert!(outer.start <= inner.start && inner.end <= outer.end);
        assert_eq!(noted_times(), []);
    }
}
