//! Layers on a CPU by oneDNN, as libtorch brings it: weights in its own layout, and activations within the product.

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;

use super::shim::new_tensor;

unsafe extern "C" {
    fn toolkit_pack_linear_weight(weight: *const c_void) -> *mut c_void;
    fn toolkit_onednn_linear(
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        activation: *const c_char,
        algorithm: *const c_char,
    ) -> *mut c_void;
    fn toolkit_onednn_conv_relu(
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        stride: i64,
        padding: *const i64,
    ) -> *mut c_void;
}

/// The weight [output, input] of a linear layer in the blocks that oneDNN reads; only [`onednn_linear`] understands it. None
/// where this libtorch has no oneDNN, or that does not know the number type on this CPU.
pub fn pack_linear_weight(weight: &Tensor) -> Option<Tensor> {
    // SAFETY: tch's pointer is an `at::Tensor`, which is only read.
    let packed = unsafe { toolkit_pack_linear_weight(weight.as_ptr() as *const c_void) };
    new_tensor(packed)
}

/// What oneDNN computes of a linear layer's output before it writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Nothing,
    Gelu,
    GeluTanh,
    Silu,
    Relu,
}

impl Ending {
    /// By libtorch's names: the function and its algorithm.
    fn names(self) -> (&'static CStr, &'static CStr) {
        match self {
            Self::Nothing => (c"none", c""),
            Self::Gelu => (c"gelu", c"none"),
            Self::GeluTanh => (c"gelu", c"tanh"),
            Self::Silu => (c"swish", c""),
            Self::Relu => (c"relu", c""),
        }
    }
}

/// The ending of `x · Wᵀ + b` on a CPU, with a weight from [`pack_linear_weight`] or a plain one, in float32 or 16 bits: x [..., input],
/// weight [output, input], bias `[output]`. None when libtorch refuses the arguments.
pub fn onednn_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, ending: Ending) -> Option<Tensor> {
    let bias = bias.map_or(std::ptr::null(), |bias| bias.as_ptr() as *const c_void);
    let [x, weight] = [x, weight].map(|tensor| tensor.as_ptr() as *const c_void);
    let (function, algorithm) = ending.names();
    // SAFETY: as above; a bias may be null, and the names end in zero.
    new_tensor(unsafe { toolkit_onednn_linear(x, weight, bias, function.as_ptr(), algorithm.as_ptr()) })
}

/// relu(x ∗ W + b) on a CPU: x [batch, input, height, width], weight [output, input, height, width], bias `[output]`,
/// `padding` above and below, then left and right. None when libtorch refuses the arguments.
pub fn onednn_conv_relu(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: i64, padding: &[i64; 2]) -> Option<Tensor> {
    let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.as_ptr() as *const c_void);
    // SAFETY: as above; of the padding two numbers are read.
    new_tensor(unsafe { toolkit_onednn_conv_relu(x, weight, bias, stride, padding.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn random(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn onednn_ends_a_product_as_libtorch_does() {
        let (x, weight, bias) = (random(&[5, 3, 64]).transpose(0, 1), random(&[48, 64]), random(&[48]));
        let packed = pack_linear_weight(&weight).unwrap();
        let sums = x.linear(&weight, Some(&bias));
        for (ending, expected) in [
            (Ending::Nothing, sums.shallow_clone()),
            (Ending::Gelu, sums.gelu("none")),
            (Ending::GeluTanh, sums.gelu("tanh")),
            (Ending::Silu, sums.silu()),
            (Ending::Relu, sums.relu()),
        ] {
            for weight in [&weight, &packed] {
                let out = onednn_linear(&x, weight, Some(&bias), ending).unwrap();
                assert_eq!(out.size(), expected.size());
                assert!((out - &expected).abs().max().double_value(&[]) < 1e-4, "{ending:?}");
            }
        }
        let none = onednn_linear(&x.narrow(0, 0, 0), &weight, Some(&bias), Ending::Gelu).unwrap();
        assert_eq!(none.size(), [0, 5, 48]);
        assert!(onednn_linear(&x, &weight.narrow(1, 0, 63), Some(&bias), Ending::Gelu).is_none());
    }

    #[test]
    fn onednn_ends_a_convolution_with_the_relu() {
        let (x, weight, bias) = (random(&[2, 5, 9, 8]), random(&[7, 5, 3, 1]), random(&[7]));
        for (stride, padding) in [(1, [1, 0]), (2, [0, 2])] {
            let expected = x.conv2d(&weight, Some(&bias), [stride; 2], padding, [1, 1], 1).relu();
            let out = onednn_conv_relu(&x, &weight, &bias, stride, &padding).unwrap();
            assert_eq!(out.size(), expected.size());
            assert!((out - expected).abs().max().double_value(&[]) < 1e-4);
        }
        assert!(onednn_conv_relu(&x, &weight.narrow(1, 0, 4), &bias, 1, &[0, 0]).is_none());
    }
}
