//! PyTorch's pickles, read without Python and without executing anything.
//!
//! The container formats are described by torch's own `serialization.py`. A pickle is a program for
//! a small stack machine; ours ([`machine`]) knows the instructions that build plain containers and
//! tensors, and refuses every other function that a pickle asks for.

mod budget;
mod functions;
mod legacy;
mod machine;
mod tensors;
mod values;
mod zip;

pub(super) use legacy::{is_legacy, open as open_legacy};
pub(super) use zip::{Sums, compare_sums, is_zip, open as open_zip};
