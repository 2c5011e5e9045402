//! What reading a pickle may cost. A few bytes of a pickle can ask for a copy of a list of thousands, and do so
//! thousands of times; so what is made is counted while it is made.

use anyhow::{Result, bail};

/// The largest published checkpoints have some 20,000 tensors of about 20 values each.
const VALUES: usize = 4_000_000;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    values: usize,
    bytes: usize,
}

impl Budget {
    /// A budget of values, and of this many bytes of names, shapes and texts.
    pub fn new(bytes: usize) -> Self {
        Self { values: VALUES, bytes }
    }

    pub fn values(&mut self, count: usize) -> Result<()> {
        let Some(left) = self.values.checked_sub(count) else {
            bail!("it holds too many values for a checkpoint");
        };
        self.values = left;
        Ok(())
    }

    pub fn bytes(&mut self, count: usize) -> Result<()> {
        let Some(left) = self.bytes.checked_sub(count) else {
            bail!("its names and shapes take too much memory for a checkpoint");
        };
        self.bytes = left;
        Ok(())
    }
}
