//! Models that describe pictures: a folder a family, and how their texts are made.

pub mod blip;
pub mod generation;
pub mod phi4_multimodal;
