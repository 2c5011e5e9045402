//! Runs in shards on a Slurm cluster: the scripts of a job array and of the job that merges, what was submitted, and
//! Slurm's own programs. A run is a folder here, a shard a number; Slurm alone decides what runs where and when.

mod record;
mod script;
pub mod slurm;

pub use record::{Array, Record};
pub use script::{ARRAY, MERGE, Scripts, check_option, log_of, ranges};
