//! How `toolkit evaluate` looks at pictures: on one device or on several, a batch at a time.
//!
//! ```text
//! Devices ─► threads: one process, a thread a device       ─┐
//!        └─► processes: a worker process a device (Crew)   ─┴─► Seen, on the first device, where it is scored
//! ```
//! What a batch is does not depend on who looks at it, so that results are the same. Nothing waits that need not: devices
//! get ready, and pictures are decoded, while the command still reads headers.

mod devices;
mod made;
mod networks;
mod processes;
mod task;
mod threads;
mod waiting;

pub use devices::Devices;
pub use processes::serve;
pub use task::{Look, Nets, Set, TASK};
