//! Linear layers in float8 (e4m3: a sign, four bits of exponent, three of mantissa), where each row of the weight and
//! each row of what comes in has a scale of its own. Lossy: half the bytes of 16 bits and twice their arithmetic, for
//! some three decimal digits less.
//!
//! Source of the arithmetic: <https://docs.pytorch.org/ao/stable/> (`Float8DynamicActivationFloat8WeightConfig`,
//! `PerRow`), Micikevicius et al. 2022, <https://arxiv.org/abs/2209.05433>.
//!
//! On CUDA the product is cuBLAS's or CUTLASS's, on the CPU the same numbers multiplied in float32: slow, and there to
//! be looked at.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::fused::{self, Activated};
use super::layers::{Activation, Linear};
use crate::checkpoints::Weights;

/// The largest number of e4m3.
pub(super) const LARGEST: f64 = 448.0;
/// So that zeros have a scale.
pub(super) const SMALLEST: f64 = 1e-12;
/// Inputs and outputs of a layer come in so many.
pub const FLOAT8_UNIT: i64 = 16;

/// Rows of numbers in e4m3, each with a scale.
#[derive(Debug)]
pub struct Float8Rows {
    /// e4m3 [..., size], contiguous.
    values: Tensor,
    /// float32 [rows, 1]
    scales: Tensor,
    /// The number type that they had, and that a product with them has.
    kind: Kind,
}

impl Float8Rows {
    /// The rows of x [..., size].
    pub fn of(x: &Tensor) -> Self {
        Self::activated(x, Activated::Itself, Tensor::shallow_clone)
    }

    /// The rows of gelu(x), the approximation with tanh.
    pub fn of_gelu(x: &Tensor) -> Self {
        Self::activated(x, Activated::GeluTanh, |x| Activation::GeluPytorchTanh.apply(x))
    }

    fn activated(x: &Tensor, activated: Activated, plainly: impl Fn(&Tensor) -> Tensor) -> Self {
        let x = x.contiguous();
        let scaled = fused::float8_rows(&x, activated).unwrap_or_else(|| quantised(&plainly(&x)));
        Self::from_scaled(scaled, x.kind())
    }

    /// Rows of a kernel that quantises what it makes; `kind`: see the field.
    pub fn from_scaled((values, scales): fused::Scaled, kind: Kind) -> Self {
        Self { values, scales, kind }
    }

    /// Values in e4m3 [..., size], and scales in float32 [rows, 1].
    pub fn parts(&self) -> (&Tensor, &Tensor) {
        (&self.values, &self.scales)
    }

    /// The rows that these stand for, in float32.
    pub fn dequantised(&self) -> Tensor {
        let wide = self.as_matrix().to_kind(Kind::Float) * &self.scales;
        wide.view(self.values.size().as_slice())
    }

    pub fn size(&self) -> Vec<i64> {
        self.values.size()
    }

    /// [rows, size]
    fn as_matrix(&self) -> Tensor {
        self.values.view([-1, self.values.size().last().copied().unwrap_or(1)])
    }
}

/// The same arithmetic as the kernel's, by libtorch's operators.
fn quantised(x: &Tensor) -> fused::Scaled {
    let wide = x.to_kind(Kind::Float);
    let largest = wide.abs().amax([-1i64].as_slice(), true).clamp_min(SMALLEST);
    let values = (wide * (largest.full_like(LARGEST) / &largest)).to_kind(Kind::Float8e4m3fn);
    (values, (largest / LARGEST).view([-1, 1]))
}

/// Writes the rows of a weight [output, input] over those that are in memory as e4m3 [output, input] and float32
/// [output, 1].
///
/// # Errors
/// Tensors of other shapes.
pub fn requantise(weight: &Tensor, values: &Tensor, scales: &Tensor) -> Result<()> {
    let new = Float8Rows::of(weight);
    values.shallow_clone().f_copy_(&new.values)?;
    scales.shallow_clone().f_copy_(&new.scales)?;
    Ok(())
}

/// `x · Wᵀ + b` in float8.
#[derive(Debug)]
pub struct Float8Linear {
    /// [output, input]
    weight: Float8Rows,
    bias: Option<Tensor>,
}

impl Float8Linear {
    /// Quantises the weight of a layer.
    ///
    /// # Errors
    /// Inputs or outputs that are not multiples of [`FLOAT8_UNIT`].
    pub fn new(layer: Linear) -> Result<Self> {
        let (weight, bias) = layer.into_tensors();
        let size = weight.size();
        ensure!(
            size.iter().all(|side| side % FLOAT8_UNIT == 0),
            "a layer of {size:?} cannot be computed in float8: its sides must be multiples of {FLOAT8_UNIT}"
        );
        Ok(Self { weight: Float8Rows::of(&weight), bias })
    }

    /// Where the weight is in memory: e4m3 [output, input] and float32 [output, 1].
    pub fn weight(&self) -> &Float8Rows {
        &self.weight
    }

    /// [..., input] → [..., output]
    pub fn forward(&self, x: &Float8Rows) -> Tensor {
        let mut shape = x.size();
        shape.pop();
        shape.extend(self.weight.size().first());
        let (values, weight) = (x.as_matrix(), self.weight.values.transpose(0, 1));
        let out = match values.device() {
            Device::Cuda(_) => {
                let (of_rows, of_outputs) = (&x.scales, self.weight.scales.transpose(0, 1));
                values.internal_scaled_mm(&weight, of_rows, &of_outputs, self.bias.as_ref(), None, x.kind, FAST_SUMS)
            }
            _ => self.imitated(x),
        };
        out.view(shape.as_slice())
    }

    /// The same into memory that is already there: `out` is contiguous, [..., output].
    pub fn forward_into(&self, x: &Float8Rows, out: &Tensor) {
        let out = out.view([-1, out.size().last().copied().unwrap_or(1)]);
        match out.device() {
            Device::Cuda(_) => {
                let (values, weight) = (x.as_matrix(), self.weight.values.transpose(0, 1));
                let (of_rows, of_outputs) = (&x.scales, self.weight.scales.transpose(0, 1));
                let bias = self.bias.as_ref();
                let _ =
                    values.internal_scaled_mm_out(&out, &weight, of_rows, &of_outputs, bias, None, x.kind, FAST_SUMS);
            }
            _ => out.shallow_clone().copy_(&self.imitated(x)),
        }
    }

    /// [rows, output], by a product in float32.
    fn imitated(&self, x: &Float8Rows) -> Tensor {
        let wide = |rows: &Float8Rows| rows.as_matrix().to_kind(Kind::Float);
        let product = wide(x).matmul(&wide(&self.weight).transpose(0, 1));
        let scaled = product * &x.scales * self.weight.scales.transpose(0, 1);
        match &self.bias {
            Some(bias) => scaled + bias.to_kind(Kind::Float),
            None => scaled,
        }
        .to_kind(x.kind)
    }
}

/// Sums are kept in the tensor cores' own type: as Python's libraries do, faster, and finer than e4m3 by far.
const FAST_SUMS: bool = true;

/// What a linear layer reads: numbers, or rows that are quantised already.
#[derive(Debug)]
pub enum LayerInput {
    Plain(Tensor),
    Float8(Float8Rows),
}

impl LayerInput {
    pub fn size(&self) -> Vec<i64> {
        match self {
            Self::Plain(x) => x.size(),
            Self::Float8(rows) => rows.size(),
        }
    }

    /// Memory of this shape, in the number type that a layer's output has.
    pub fn room(&self, shape: &[i64]) -> Tensor {
        Tensor::empty(
            shape,
            match self {
                Self::Plain(x) => (x.kind(), x.device()),
                Self::Float8(rows) => (rows.kind, rows.values.device()),
            },
        )
    }
}

/// A linear layer with a bias, in the number type of its model or in float8.
#[derive(Debug)]
pub enum AnyLinear {
    Plain(Linear),
    Float8(Float8Linear),
}

impl AnyLinear {
    /// In float8 where the place says so, see [`Weights::wants_float8`].
    pub fn new(weights: &Weights, input: i64, output: i64) -> Result<Self> {
        Self::of(Linear::new(weights, input, output)?, std::slice::from_ref(weights), output)
    }

    /// Several layers that read the same input, with their outputs side by side: see [`Linear::joined`].
    pub fn joined(weights: &Weights, names: &[&str], input: i64, output: i64) -> Result<Self> {
        let places: Vec<Weights> = names.iter().map(|name| weights.at(name)).collect();
        Self::of(Linear::joined(weights, names, input, output, true)?, &places, output)
    }

    /// Each of `places` holds so many outputs of the layer.
    fn of(layer: Linear, places: &[Weights], outputs: i64) -> Result<Self> {
        if !places.iter().any(Weights::wants_float8) {
            return Ok(Self::Plain(layer));
        }
        let layer = Float8Linear::new(layer)?;
        for (place, first) in places.iter().zip((0..).step_by(outputs.max(1) as usize)) {
            let [values, scales] = [&layer.weight.values, &layer.weight.scales].map(|t| t.narrow(0, first, outputs));
            place.laid_out_in_float8("weight", &values, &scales);
        }
        Ok(Self::Float8(layer))
    }

    /// [..., input] → [..., output]
    pub fn forward(&self, x: &LayerInput) -> Tensor {
        match (self, x) {
            (Self::Plain(layer), LayerInput::Plain(x)) => layer.forward(x),
            (Self::Plain(layer), LayerInput::Float8(rows)) => layer.forward(&rows.dequantised().to_kind(rows.kind)),
            (Self::Float8(layer), LayerInput::Plain(x)) => layer.forward(&Float8Rows::of(x)),
            (Self::Float8(layer), LayerInput::Float8(rows)) => layer.forward(rows),
        }
    }

    /// The same into memory that is already there: `out` is contiguous, [..., output].
    pub fn forward_into(&self, x: &LayerInput, out: &Tensor) {
        match (self, x) {
            (Self::Plain(layer), LayerInput::Plain(x)) => layer.forward_into(x, out),
            (Self::Float8(layer), LayerInput::Float8(rows)) => layer.forward_into(rows, out),
            _ => out.shallow_clone().copy_(&self.forward(x)),
        }
    }

    /// The GELU of the output, approximated with tanh, as the next layer of the same kind reads it.
    pub fn forward_gelu(&self, x: &LayerInput) -> LayerInput {
        match (self, x) {
            (Self::Plain(layer), LayerInput::Plain(x)) => {
                LayerInput::Plain(layer.forward_activated(x, Activation::GeluPytorchTanh))
            }
            (Self::Plain(_), LayerInput::Float8(_)) => {
                LayerInput::Plain(Activation::GeluPytorchTanh.apply(&self.forward(x)))
            }
            (Self::Float8(_), _) => LayerInput::Float8(Float8Rows::of_gelu(&self.forward(x))),
        }
    }
}
