//! Low-rank adapters (LoRA, Hu et al. 2021, <https://arxiv.org/abs/2106.09685>): files that change some weights of a
//! generator by products of two thin matrices. They are merged into the weights and cost nothing while drawing.
//!
//! The files are those that diffusers, PEFT and kohya's trainers write, in all the ways that layers are called there:
//! [`file`] reads what belongs to a layer, `names` finds the layer, `merge` changes the weights.

mod describe;
mod file;
mod merge;
mod names;
mod resolve;

use crate::models::{AdapterTask, Checked, Family, Task};

pub use merge::Adaptable;
pub use names::{Index, Network};
pub use resolve::{Lora, open};

/// How files are told and looked at.
pub static FAMILY: Family = Family {
    title: "file of low-rank adapters (LoRA)",
    pipeline_classes: &[],
    model_types: &[],
    tensors: &[
        "*.lora_A.weight",
        "*.lora_down.weight",
        "*.lora_linear_layer.down.weight",
        "*.lora.down.weight",
        "*_lora.down.weight",
    ],
    is_file: |_, _| Ok(true),
    files: |_, _| Ok(()),
    // What it changes is known where it is used.
    task: Task::Adapt(AdapterTask {
        verify: |path, _| Ok(Checked { built: false, about: Some(describe::describe(path)?) }),
    }),
};
