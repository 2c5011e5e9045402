//! The block that U-Net and autoencoder are made of.
//!
//! Architecture: <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/resnet.py>

use anyhow::Result;
use tch::Tensor;

use super::{Activation, Conv2d, GroupNorm};
use crate::checkpoints::Weights;

/// Two convolutions, each of an activated group norm, beside a way straight through.
#[derive(Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    act: Activation,
}

/// What the norms and activations of a net's blocks have in common.
#[derive(Debug, Clone, Copy)]
pub struct ResnetStyle {
    pub groups: i64,
    pub eps: f64,
    pub act: Activation,
}

impl ResnetBlock {
    pub fn new(weights: &Weights, input: i64, output: i64, style: ResnetStyle) -> Result<Self> {
        let ResnetStyle { groups, eps, act } = style;
        let conv = |name: &str, input, kernel: i64| -> Result<Conv2d> {
            let at = weights.at(name);
            Ok(Conv2d::new(&at, input, output, kernel, 1, kernel / 2)?.channels_last(&at))
        };
        Ok(Self {
            norm1: GroupNorm::new(&weights.at("norm1"), groups, input, eps)?,
            conv1: conv("conv1", input, 3)?,
            norm2: GroupNorm::new(&weights.at("norm2"), groups, output, eps)?,
            conv2: conv("conv2", output, 3)?,
            conv_shortcut: (input != output).then(|| conv("conv_shortcut", input, 1)).transpose()?,
            act,
        })
    }

    /// [batch, input, height, width] → [batch, output, height, width]; `first_bias` `[output]` takes the place of
    /// the first convolution's own.
    pub fn forward(&self, x: &Tensor, first_bias: Option<&Tensor>) -> Tensor {
        let h = self.norm1.forward_activated(&x.into(), self.act);
        let h = self.conv1.forward_deferring(&h, first_bias);
        let h = self.conv2.forward_deferring(&self.norm2.forward_activated(&h, self.act), None);
        match &self.conv_shortcut {
            Some(conv) => h.added_to(&conv.forward(x)),
            None => h.added_to(x),
        }
    }

    /// Of the first convolution.
    pub fn first_bias(&self) -> Option<&Tensor> {
        self.conv1.bias()
    }
}
