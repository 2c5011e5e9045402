//! Networks whose features pictures are compared in.

pub mod alexnet;
pub mod inception;
