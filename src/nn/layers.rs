//! The plain layers: linear, convolution, norms, embedding, activations.

use anyhow::Result;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::checkpoints::Weights;

/// `x · Wᵀ + b`.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// With a bias.
    pub fn new(weights: &Weights, input: i64, output: i64) -> Result<Self> {
        let bias = Some(weights.get("bias", &[output])?);
        Ok(Self { weight: weights.get("weight", &[output, input])?, bias })
    }

    pub fn without_bias(weights: &Weights, input: i64, output: i64) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[output, input])?, bias: None })
    }

    /// From tensors already loaded: `weight` is [output, input].
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// [..., input] → [..., output]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }

    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// Normalises over the last axis.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    size: i64,
    eps: f64,
}

impl LayerNorm {
    pub fn new(weights: &Weights, size: i64, eps: f64) -> Result<Self> {
        let (weight, bias) = (weights.get("weight", &[size])?, weights.get("bias", &[size])?);
        Ok(Self { weight: Some(weight), bias: Some(bias), size, eps })
    }

    /// Without weight and bias.
    pub fn plain(size: i64, eps: f64) -> Self {
        Self { weight: None, bias: None, size, eps }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm([self.size], self.weight.as_ref(), self.bias.as_ref(), self.eps, true)
    }
}

/// Root-mean-square norm: computed in float32, cast to the weight's type, then times the weight (as
/// LLaMA and T5 do).
#[derive(Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub fn new(weights: &Weights, size: i64, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[size])?, eps })
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let wide = x.to_kind(Kind::Float);
        let mean_square = wide.square().mean_dim([-1i64].as_slice(), true, Kind::Float);
        (wide * (mean_square + self.eps).rsqrt()).to_kind(self.weight.kind()) * &self.weight
    }
}

/// Normalises groups of channels of [batch, channels, ...].
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    pub fn new(weights: &Weights, groups: i64, channels: i64, eps: f64) -> Result<Self> {
        let (weight, bias) = (weights.get("weight", &[channels])?, weights.get("bias", &[channels])?);
        Ok(Self { weight, bias, groups, eps })
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Two-dimensional convolution with a square kernel.
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// With a bias.
    pub fn new(weights: &Weights, input: i64, output: i64, kernel: i64, stride: i64, padding: i64) -> Result<Self> {
        let bias = Some(weights.get("bias", &[output])?);
        Ok(Self { weight: weights.get("weight", &[output, input, kernel, kernel])?, bias, stride, padding })
    }

    pub fn without_bias(
        weights: &Weights,
        input: i64,
        output: i64,
        kernel: i64,
        stride: i64,
        padding: i64,
    ) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[output, input, kernel, kernel])?, bias: None, stride, padding })
    }

    /// [batch, input, height, width] → [batch, output, height', width']
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.conv2d(&self.weight, self.bias.as_ref(), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }

    /// The same with another bias: [output].
    pub fn forward_with_bias(&self, x: &Tensor, bias: &Tensor) -> Tensor {
        x.conv2d(&self.weight, Some(bias), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }

    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// A table of vectors looked up by id.
#[derive(Debug)]
pub struct Embedding {
    weight: Tensor,
}

impl Embedding {
    pub fn new(weights: &Weights, count: i64, size: i64) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[count, size])? })
    }

    /// [...] of int64 → [..., size]
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.weight, ids, -1, false, false)
    }

    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

/// Activation functions by the names that transformers' configs use (`ACT2FN`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Exact, by the error function.
    Gelu,
    /// Tanh approximation; T5 calls it `gelu_new`.
    #[serde(alias = "gelu_new")]
    GeluPytorchTanh,
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
    #[serde(alias = "swish")]
    Silu,
    Relu,
}

impl Activation {
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluPytorchTanh => x.gelu("tanh"),
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::Silu => x.silu(),
            Self::Relu => x.relu(),
        }
    }
}
