//! What was loaded last stays for the next drawing.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;

/// The last thing that was loaded from a path.
#[derive(Debug)]
pub struct Kept<T>(RefCell<Option<(PathBuf, Rc<T>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Kept<T> {
    /// What is at this path: what is kept, or what `load` gives. What was kept before goes first, since both may be large.
    pub fn get(&self, path: &Path, load: impl FnOnce() -> Result<T>) -> Result<Rc<T>> {
        if let Some((kept, thing)) = self.0.borrow().as_ref()
            && kept == path
        {
            return Ok(thing.clone());
        }
        self.0.take();
        let thing = Rc::new(load()?);
        *self.0.borrow_mut() = Some((path.to_path_buf(), thing.clone()));
        Ok(thing)
    }
}
