//! Values that are made in the background.

use std::cell::{Cell, OnceCell};
use std::fmt;

use anyhow::{Context, Result, anyhow};

use super::threads::Background;
use super::{catch_panics, one_line};

/// A value that a thread of its own makes, from now on until it is wanted. What goes wrong there is told by whoever wants it.
pub struct Coming<T> {
    made: OnceCell<Result<T, String>>,
    /// The thread that makes it, which is waited for when this goes.
    on_its_way: Cell<Option<Background<Result<T>>>>,
}

impl<T: Send + 'static> Coming<T> {
    /// Begins. The GPU of the thread is that of the calling one.
    pub fn start(work: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        let thread = Background::start(move || catch_panics(work));
        Self { made: OnceCell::new(), on_its_way: Cell::new(Some(thread)) }
    }

    /// The value, waited for where it is not here yet.
    ///
    /// # Errors
    /// Of the work, with all that it says of its kind the first time, and as a line later.
    pub fn get(&self) -> Result<&T> {
        if self.made.get().is_none() {
            let received = self.receive();
            if let Err(error) = received {
                let _ = self.made.set(Err(one_line(&error)));
                return Err(error);
            }
            let _ = self.made.set(received.map_err(|error| one_line(&error)));
        }
        match self.made.get() {
            Some(Ok(value)) => Ok(value),
            Some(Err(line)) => Err(anyhow!(line.clone())),
            None => Err(anyhow!("it was not made")),
        }
    }

    /// The value itself.
    ///
    /// # Errors
    /// As of [`Self::get`].
    pub fn take(mut self) -> Result<T> {
        match self.made.take() {
            Some(made) => made.map_err(anyhow::Error::msg),
            None => self.receive(),
        }
    }

    fn receive(&self) -> Result<T> {
        let thread = self.on_its_way.take().context("it was taken before")?;
        thread.end().context("no thread could be started")?
    }
}

impl<T> fmt::Debug for Coming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coming").field("is_made", &self.made.get().is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use anyhow::bail;

    use super::*;
    use crate::error::UsageError;
    use crate::error::usage;

    #[test]
    fn a_value_is_made_elsewhere_and_stays() {
        let here = std::thread::current().id();
        let coming = Coming::start(move || Ok((std::thread::current().id() != here, String::from("made"))));
        assert_eq!(coming.get().unwrap(), &(true, "made".to_string()));
        assert_eq!(coming.get().unwrap().1, "made");
        assert_eq!(coming.take().unwrap().1, "made");
        assert_eq!(Coming::start(|| Ok(3)).take().unwrap(), 3);
    }

    #[test]
    fn an_error_keeps_its_kind_and_is_told_again() {
        let coming: Coming<()> = Coming::start(|| Err(usage("a wrong file").context("reading b")));
        let error = coming.get().unwrap_err();
        assert!(error.downcast_ref::<UsageError>().is_some());
        assert_eq!(one_line(&error), "reading b: a wrong file");
        assert_eq!(coming.get().unwrap_err().to_string(), "reading b: a wrong file");
        let failed: Coming<()> = Coming::start(|| bail!("no"));
        assert_eq!(failed.take().unwrap_err().to_string(), "no");
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error() {
        let coming: Coming<()> = Coming::start(|| panic!("Torch(\"no such shape\\nException raised from view\")"));
        assert_eq!(one_line(&coming.get().unwrap_err()), "internal error: no such shape");
    }

    #[test]
    fn one_that_nobody_wants_is_waited_for() {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        let coming = Coming::start(move || {
            std::thread::sleep(std::time::Duration::from_millis(30));
            flag.store(true, Ordering::Relaxed);
            Ok(())
        });
        drop(coming);
        assert!(ended.load(Ordering::Relaxed));
    }
}
