//! Folders and lists of pictures as batches for the metric networks.
//!
//! ```text
//! pairs, files ─► sizes (headers) ─► decoding (as squares, where asked for) ─► batches ─► pixels on the device
//! ```

mod batches;
mod decoding;
mod pairs;
mod pixels;
mod sizes;
mod square;

pub use batches::{Batch, Batches, rows};
pub use decoding::Decoding;
pub use pairs::{Pair, pairs, several};
pub use pixels::pixels;
pub use sizes::{SizesDiffer, check_headers, check_readable};
pub use square::Square;
