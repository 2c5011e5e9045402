//! Low-rank adapters (LoRA, Hu et al. 2021, <https://arxiv.org/abs/2106.09685>): files that change some weights of a
//! generator by products of two thin matrices. They are merged into the weights and cost nothing while drawing.
//!
//! The files are those that diffusers, PEFT and kohya's trainers write, in all the ways that layers are called there:
//! [`file`] reads what belongs to a layer, [`names`] finds the layer, [`merge`] changes the weights.

mod file;
mod merge;
mod names;
mod resolve;

pub use merge::Adaptable;
pub use names::{Index, Network};
pub use resolve::{Lora, open};
