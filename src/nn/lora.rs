//! Low-rank adaptation: a linear layer's weight plus a scaled product of two thin matrices.

use anyhow::{Result, bail};
use tch::Kind;

use super::Linear;
use crate::checkpoints::Weights;

/// A LoRA of one name: its rank, and alpha / rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lora {
    pub rank: i64,
    pub scale: f64,
}

/// A linear layer without bias, with `lora` merged into it: `weight + scale · lora_B.weight · lora_A.weight`,
/// summed in float32 and then rounded once, one layer at a time.
///
/// A `lora_B` of zeros is an error: an adapter that was never trained, or was lost on the way, would
/// leave a model that talks fluently of something else.
pub fn merged_linear(weights: &Weights, input: i64, output: i64, lora: Option<Lora>) -> Result<Linear> {
    let Some(Lora { rank, scale }) = lora else { return Linear::without_bias(weights, input, output) };
    let wide = weights.with_kind(Kind::Float);
    let a = wide.get("lora_A.weight", &[rank, input])?;
    let b = wide.get("lora_B.weight", &[output, rank])?;
    for (name, tensor) in [("lora_A.weight", &a), ("lora_B.weight", &b)] {
        if tensor.abs().max().double_value(&[]) == 0.0 {
            bail!(
                "{}: tensor {} is all zeros, and a LoRA that was never trained changes nothing: is this the whole \
                 checkpoint?",
                weights.files(),
                weights.key(name)
            );
        }
    }
    let merged = wide.get("weight", &[output, input])? + b.matmul(&a) * scale;
    Ok(Linear::from_tensors(merged.to_kind(weights.kind()), None))
}
