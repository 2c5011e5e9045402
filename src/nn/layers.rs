//! The plain layers: linear, convolution, norms, embedding, activations.

use anyhow::Result;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::fused::{self, Epilogue};
use crate::checkpoints::Weights;
use crate::runtime::onednn::{Ending, onednn_linear, pack_linear_weight};
use crate::runtime::shim;

/// `x · Wᵀ + b`.
#[derive(Debug)]
pub struct Linear {
    /// [output, input]; in oneDNN's own layout where `packed`.
    weight: Tensor,
    bias: Option<Tensor>,
    packed: bool,
}

impl Linear {
    /// With a bias.
    pub fn new(weights: &Weights, input: i64, output: i64) -> Result<Self> {
        let bias = Some(weights.get("bias", &[output])?);
        Ok(Self::from_tensors(weights.get("weight", &[output, input])?, bias))
    }

    pub fn without_bias(weights: &Weights, input: i64, output: i64) -> Result<Self> {
        Ok(Self::from_tensors(weights.get("weight", &[output, input])?, None))
    }

    /// From tensors already loaded: `weight` is [output, input].
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, packed: false }
    }

    /// Weight [output, input] and bias, of a layer that was not [`packed`](Self::packed).
    pub(super) fn into_tensors(self) -> (Tensor, Option<Tensor>) {
        (self.weight, self.bias)
    }

    /// Several layers that read the same input, as one with their outputs side by side.
    pub fn side_by_side(layers: &[Self]) -> Self {
        let weights: Vec<&Tensor> = layers.iter().map(|layer| &layer.weight).collect();
        let biases: Option<Vec<&Tensor>> = layers.iter().map(|layer| layer.bias.as_ref()).collect();
        Self::from_tensors(Tensor::cat(&weights, 0), biases.map(|biases| Tensor::cat(&biases, 0)))
    }

    /// The same from their places below `weights`, each [output, input].
    pub fn joined(weights: &Weights, names: &[&str], input: i64, output: i64, bias: bool) -> Result<Self> {
        let new = if bias { Self::new } else { Self::without_bias };
        let layers: Vec<Self> =
            names.iter().map(|name| new(&weights.at(name), input, output)).collect::<Result<_>>()?;
        let joined = Self::side_by_side(&layers);
        for (i, name) in names.iter().enumerate() {
            weights.at(name).laid_out("weight", &joined.weight.narrow(0, i as i64 * output, output));
        }
        Ok(joined)
    }

    /// On a CPU in float32 or bfloat16, lays the weight out once as oneDNN reads it: a tenth faster on many
    /// rows, almost twice on few. Elsewhere nothing changes.
    pub fn packed(mut self) -> Self {
        if self.weight.device() == Device::Cpu
            && matches!(self.weight.kind(), Kind::Float | Kind::BFloat16)
            && let Some(weight) = pack_linear_weight(&self.weight)
        {
            (self.weight, self.packed) = (weight, true);
        }
        self
    }

    /// [..., input] → [..., output]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        if let Some(out) = self.over_skinny_gemm(x, &Epilogue::default()) {
            return out;
        }
        if !self.packed {
            return x.linear(&self.weight, self.bias.as_ref());
        }
        onednn_linear(x, &self.weight, self.bias.as_ref(), Ending::Nothing)
            .unwrap_or_else(|| x.linear(&self.weight.to_dense(None, false), self.bias.as_ref()))
    }

    fn over_skinny_gemm(&self, x: &Tensor, epilogue: &Epilogue) -> Option<Tensor> {
        if self.packed { None } else { fused::skinny_gemm(x, &self.weight, self.bias.as_ref(), epilogue) }
    }

    /// The layer over the norm of x.
    pub fn forward_normed(&self, x: &Tensor, norm: &RmsNorm) -> Tensor {
        let epilogue = Epilogue { norm: Some((&norm.weight, norm.eps)), ..Epilogue::default() };
        self.over_skinny_gemm(x, &epilogue).unwrap_or_else(|| self.forward(&norm.forward(x)))
    }

    /// The layer over x, plus `added`, which is as large as the output.
    pub fn forward_added(&self, x: &Tensor, added: &Tensor) -> Tensor {
        let epilogue = Epilogue { added: Some(added), ..Epilogue::default() };
        self.over_skinny_gemm(x, &epilogue).unwrap_or_else(|| added + self.forward(x))
    }

    /// silu(gate) · up, where gate and up are the halves of the output over the norm of x.
    pub fn forward_normed_gated(&self, x: &Tensor, norm: &RmsNorm) -> Tensor {
        let epilogue = Epilogue { norm: Some((&norm.weight, norm.eps)), gated: true, ..Epilogue::default() };
        self.over_skinny_gemm(x, &epilogue).unwrap_or_else(|| self.forward_gated(&norm.forward(x)))
    }

    /// silu(gate) · up, where gate and up are the halves of the output.
    pub fn forward_gated(&self, x: &Tensor) -> Tensor {
        let epilogue = Epilogue { gated: true, ..Epilogue::default() };
        self.over_skinny_gemm(x, &epilogue).unwrap_or_else(|| {
            let both = self.forward(x);
            fused::silu_product(&both).unwrap_or_else(|| {
                let halves = both.chunk(2, -1);
                &halves[1] * halves[0].silu()
            })
        })
    }

    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The layer over the same weight, with a bias that has `more` `[output]` added.
    pub fn with_raised_bias(&self, more: &Tensor) -> Self {
        let more = more.to_kind(Kind::Float);
        let bias = match &self.bias {
            Some(bias) => bias.to_kind(Kind::Float) + more,
            None => more,
        };
        let bias = Some(bias.to_kind(self.kind()));
        Self { weight: self.weight.shallow_clone(), bias, packed: self.packed }
    }

    /// Adds `x · Wᵀ`, without the bias, to `sum` where it stands: contiguous, [..., output].
    pub fn add_product_to(&self, x: &Tensor, sum: &Tensor) {
        let as_rows = |x: &Tensor| x.reshape([-1, x.size().last().copied().unwrap_or(1)]);
        let plain = self.packed.then(|| self.weight.to_dense(None, false));
        let weight = plain.as_ref().unwrap_or(&self.weight);
        let _ = sum.view([-1, weight.size()[0]]).addmm_(&as_rows(x), &weight.tr());
    }

    /// The same into memory that is already there: `out` is contiguous, [..., output].
    pub fn forward_into(&self, x: &Tensor, out: &Tensor) {
        let as_rows = |x: &Tensor| x.view([-1, x.size().last().copied().unwrap_or(1)]);
        if self.packed {
            return as_rows(out).copy_(&as_rows(&self.forward(x)));
        }
        let _ = as_rows(x).linear_out(&as_rows(out), &self.weight, self.bias.as_ref());
    }

    /// The activation of the output. On CUDA the matrix product itself ends with a tanh-GELU, and over few
    /// rows with an exact one; on a CPU with any that oneDNN has.
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Tensor {
        let epilogue = Epilogue { gelu: true, ..Epilogue::default() };
        if activation == Activation::Gelu
            && let Some(out) = self.over_skinny_gemm(x, &epilogue)
        {
            return out;
        }
        if let Some(out) = self.over_onednn(x, activation) {
            return out;
        }
        let bias = self.bias.as_ref().filter(|_| activation == Activation::GeluPytorchTanh && fused::fits(x));
        let mut shape = x.size();
        let rows = x.reshape([-1, shape.pop().unwrap_or(1)]);
        let Some(out) = bias.and_then(|bias| shim::linear_gelu(&rows, &self.weight, bias)) else {
            return activation.apply(&self.forward(x));
        };
        shape.push(out.size()[1]);
        out.view(shape.as_slice())
    }

    /// In float32 the weight need not be packed: what a call spends on its layout is little beside the rows that pay for
    /// an activation.
    fn over_onednn(&self, x: &Tensor, activation: Activation) -> Option<Tensor> {
        let fits = self.weight.device() == Device::Cpu && (self.packed || self.weight.kind() == Kind::Float);
        let ending = activation.in_onednn().filter(|_| fits && x.kind() == self.weight.kind())?;
        onednn_linear(x, &self.weight, self.bias.as_ref(), ending)
    }

    pub fn kind(&self) -> Kind {
        self.weight.kind()
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
        self.affine()
            .and_then(|(weight, bias)| fused::layer_norm(x, weight, bias, self.eps))
            .unwrap_or_else(|| x.layer_norm([self.size], self.weight.as_ref(), self.bias.as_ref(), self.eps, true))
    }

    fn affine(&self) -> Option<(&Tensor, &Tensor)> {
        self.weight.as_ref().zip(self.bias.as_ref())
    }

    /// x + y, and its norm. `y` may have only the last axes of `x`.
    pub fn add_forward(&self, x: &Tensor, y: &Tensor) -> (Tensor, Tensor) {
        let fused = self.affine().and_then(|(weight, bias)| fused::add_layer_norm(x, y, weight, bias, self.eps));
        fused.unwrap_or_else(|| {
            let sum = x + y;
            let normed = self.forward(&sum);
            (sum, normed)
        })
    }

    /// The norm of x + y, where the sum itself is not wanted.
    pub fn forward_sum(&self, x: &Tensor, y: &Tensor) -> Tensor {
        self.affine()
            .and_then(|(weight, bias)| fused::layer_norm_of_sum(x, y, weight, bias, self.eps))
            .unwrap_or_else(|| self.forward(&(x + y)))
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

    /// x + y, and its norm.
    pub fn add_forward(&self, x: &Tensor, y: &Tensor) -> (Tensor, Tensor) {
        fused::add_rms_norm(x, y, &self.weight, self.eps).unwrap_or_else(|| {
            let sum = x + y;
            let normed = self.forward(&sum);
            (sum, normed)
        })
    }

    /// Norms the heads of queries (as `self` does) and of keys where they stand: `qkv` [rows, batch, 3 · heads ·
    /// width] holds queries, keys and values, and is contiguous.
    pub fn norm_heads(&self, of_keys: &Self, qkv: &Tensor, heads: i64) {
        if fused::norm_heads(qkv, &self.weight, &of_keys.weight, heads, self.eps).is_some() {
            return;
        }
        let size = qkv.size();
        let parts = qkv.view([size[0], size[1], 3, heads, -1]).unbind(2);
        for (norm, part) in [(self, &parts[0]), (of_keys, &parts[1])] {
            part.shallow_clone().copy_(&norm.forward(&part.contiguous()));
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        if let Some(normed) = fused::rms_norm(x, &self.weight, self.eps) {
            return normed;
        }
        let wide = x.to_kind(Kind::Float);
        let mean_square = wide.square().mean_dim([-1i64].as_slice(), true, Kind::Float);
        (wide * (mean_square + self.eps).rsqrt()).to_kind(self.weight.kind()) * &self.weight
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

    /// How oneDNN ends a product with it.
    fn in_onednn(self) -> Option<Ending> {
        match self {
            Self::Gelu => Some(Ending::Gelu),
            Self::GeluPytorchTanh => Some(Ending::GeluTanh),
            Self::QuickGelu => None,
            Self::Silu => Some(Ending::Silu),
            Self::Relu => Some(Ending::Relu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_and_joined_layers_give_what_the_plain_ones_give() {
        let _guard = tch::no_grad_guard();
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        for (input, output, rows) in [(768, 64, 1), (7, 33, 5), (48, 1, 70)] {
            // No bias is so near to 0 that it would not be missed.
            let bias = || random(&[output]).abs() + 1.0;
            let layers = [0, 1].map(|_| Linear::from_tensors(random(&[output, input]), Some(bias())));
            let x = random(&[rows, 3, input]).transpose(0, 1); // not contiguous
            let apart = Tensor::cat(&layers.each_ref().map(|layer| layer.forward(&x)), -1);
            let joined = Linear::side_by_side(&layers).packed();
            assert!(joined.packed, "this libtorch has no oneDNN");
            // Sums of up to 768 products of normal values, in another order.
            assert!((joined.forward(&x) - apart).abs().max().double_value(&[]) < 1e-3);
            let [layer, _] = layers;
            let (plain, bare) = (layer.forward(&x), Linear::from_tensors(layer.weight.copy(), None).packed());
            assert!((layer.packed().forward(&x) - &plain).abs().max().double_value(&[]) < 1e-3);
            assert!((bare.forward(&x) - &plain).abs().max().double_value(&[]) > 0.1, "the bias counts");
        }
        let half = Linear::from_tensors(random(&[8, 8]).to_kind(Kind::Half), None).packed();
        assert!(!half.packed && half.kind() == Kind::Half);
        let plain = Linear::from_tensors(random(&[8, 8]).to_kind(Kind::BFloat16), None);
        let x = random(&[5, 8]).to_kind(Kind::BFloat16);
        let (expected, packed) = (plain.forward(&x), plain.packed());
        assert_eq!(packed.kind(), Kind::BFloat16);
        // A step of bfloat16 is 2^-8 of the number.
        assert!((packed.forward(&x) - expected).abs().max().double_value(&[]) < 0.1);
    }

    #[test]
    fn a_product_ends_with_its_activation() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        use Activation::{Gelu, GeluPytorchTanh, QuickGelu, Relu, Silu};
        for activation in [Gelu, GeluPytorchTanh, QuickGelu, Silu, Relu] {
            let layer = Linear::from_tensors(random(&[33, 48]), Some(random(&[33])));
            let x = random(&[7, 2, 48]);
            let expected = activation.apply(&layer.forward(&x));
            for out in [layer.forward_activated(&x, activation), layer.packed().forward_activated(&x, activation)] {
                assert!((out - &expected).abs().max().double_value(&[]) < 1e-4, "{activation:?}");
            }
        }
    }
}
