//! Texts that have ended leave the batch, so that the rest goes on faster.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Rows leave when they are at least one in so many: every departure copies what the others remember.
const SHARE: usize = 4;

/// Where the texts of those go that have left.
#[derive(Debug)]
pub(super) struct Compaction {
    /// [prompts, length]
    whole: Tensor,
    /// Which prompt each running one is: int64 [running].
    prompts: Tensor,
}

/// How a search goes on.
#[derive(Debug)]
pub(super) enum Next {
    /// All have ended.
    End,
    All,
    /// With these of the running ones: int64 [fewer].
    Only(Tensor),
}

impl Compaction {
    /// `texts`: int64 [prompts, length], as they are before anything is said.
    pub(super) fn new(texts: &Tensor) -> Self {
        let prompts = Tensor::arange(texts.size()[0], (Kind::Int64, texts.device()));
        Self { whole: texts.copy(), prompts }
    }

    /// Waits for the device to say which go on (bool [running]); keeps the texts of those that leave, if
    /// any may.
    pub(super) fn ask(&mut self, goes_on: &Tensor, texts: &Tensor, may_leave: bool) -> Result<Next> {
        let goes_on: Vec<bool> = goes_on.to_device(Device::Cpu).try_into()?;
        let rows: Vec<i64> = (0..).zip(&goes_on).filter(|(_, goes_on)| **goes_on).map(|(row, _)| row).collect();
        if rows.is_empty() {
            return Ok(Next::End);
        }
        if !may_leave || (goes_on.len() - rows.len()) * SHARE < goes_on.len() {
            return Ok(Next::All);
        }
        self.keep(texts);
        let rows = Tensor::from_slice(&rows).to_device(texts.device());
        self.prompts = self.prompts.index_select(0, &rows);
        Ok(Next::Only(rows))
    }

    fn keep(&mut self, texts: &Tensor) {
        let _ = self.whole.index_copy_(0, &self.prompts, texts);
    }

    /// The texts of all, with what the running ones say now: [prompts, length].
    pub(super) fn texts(mut self, texts: &Tensor) -> Tensor {
        self.keep(texts);
        self.whole
    }
}
