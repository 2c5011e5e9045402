//! Networks whose features pictures are compared in.

pub mod alexnet;
pub mod clip;
pub mod csd;
pub mod dinov2;
pub mod inception;
