//! Layers that several models use. Each takes a [`Weights`](crate::checkpoints::Weights) place, so
//! its fields carry the checkpoint's own key names.

mod layers;

pub use layers::{Activation, Conv2d, Embedding, GroupNorm, LayerNorm, Linear, RmsNorm};
