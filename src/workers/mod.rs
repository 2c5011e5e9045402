//! Work that several processes share, a device each: a crash costs a batch, not the run.
//!
//! ```text
//! Ledger (parent): batches ─► Crew: one queue ─► worker: Desk ─► Stage::work
//!           record ◄───────────────┴──────────────────┘
//! ```
//! The parent decides what a batch is and writes down what it came to; a worker computes. So results do not depend on
//! how many workers there are, nor on who computed what. Messages go over a socket that is the worker's standard input:
//! a line of JSON each, and behind it the bytes that it announces.

mod crew;
mod desk;
mod message;
mod paths;
mod process;
mod stage;

pub use crew::{Crew, Hint};
pub use desk::Desk;
pub use paths::Paths;
pub use process::Team;
pub use stage::{Ledger, Packed, Parcel, Stage, alone, from_le_bytes, to_le_bytes};
