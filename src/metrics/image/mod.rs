//! Metrics of pictures, and how pictures get to their networks.

pub mod artfid;
pub mod features;
pub mod frechet;
pub mod lpips;
pub mod photo;
pub mod pictures;
