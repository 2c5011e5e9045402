//! Layers over feature maps [batch, channels, height, width]. Where a GPU computes in 16 bits, the channels
//! lie last in memory: its convolutions work that way, and the places of a map are then tokens without a copy.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::Activation;
use super::fused::{self, Affine};
use crate::checkpoints::Weights;
use crate::runtime::onednn::onednn_conv_relu;
use crate::runtime::tf32_is_chosen;

/// Channels of a convolution on tensor cores come in multiples of this.
const CHANNEL_UNIT: i64 = 8;

/// The same map with its channels last in memory where that is faster; elsewhere as it is.
pub fn channels_last(x: &Tensor) -> Tensor {
    if fused::fits(x) { x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]) } else { x.shallow_clone() }
}

/// The map at this height and width, each place from the nearest one.
pub fn upsample_nearest(x: &Tensor, size: [i64; 2]) -> Tensor {
    let is_double = size == [2 * x.size()[2], 2 * x.size()[3]];
    let doubled = if is_double { fused::upsample_nearest_2x(x) } else { None };
    doubled.unwrap_or_else(|| x.upsample_nearest2d(size, None, None))
}

/// [batch, channels, height, width] → [batch, places, channels]
pub fn to_tokens(x: &Tensor) -> Tensor {
    x.flatten(2, 3).transpose(1, 2)
}

/// [batch, places, channels] → the map of this size [batch, channels, height, width]; a view of the tokens
/// where channels are last in memory, else laid out anew.
pub fn from_tokens(tokens: &Tensor, size: &[i64]) -> Tensor {
    let map = tokens.transpose(1, 2);
    if fused::fits(tokens) { map.view(size) } else { map.reshape(size) }
}

/// A feature map whose channels are still to get a bias: the next layer adds it on its way.
#[derive(Debug)]
pub struct DeferredBias {
    pub map: Tensor,
    /// `[channels]`; None = nothing is left to do.
    pub by: Option<Tensor>,
}

impl DeferredBias {
    /// x + the map
    pub fn added_to(&self, x: &Tensor) -> Tensor {
        let Some(bias) = &self.by else { return x + &self.map };
        fused::add_deferred_bias(x, &self.map, bias).unwrap_or_else(|| x + self.whole())
    }

    fn whole(&self) -> Tensor {
        match &self.by {
            Some(bias) => &self.map + bias.view([1, -1, 1, 1]),
            None => self.map.shallow_clone(),
        }
    }
}

impl From<&Tensor> for DeferredBias {
    fn from(map: &Tensor) -> Self {
        Self { map: map.shallow_clone(), by: None }
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
        self.fused(&x.into(), false).unwrap_or_else(|| self.plain(x))
    }

    /// The activation of the norm.
    pub fn forward_activated(&self, x: &DeferredBias, activation: Activation) -> Tensor {
        let silu = activation == Activation::Silu;
        match self.fused(x, silu) {
            Some(out) if silu => out,
            Some(out) => activation.apply(&out),
            None => activation.apply(&self.plain(&x.whole())),
        }
    }

    fn fused(&self, x: &DeferredBias, silu: bool) -> Option<Tensor> {
        let affine = Affine { weight: &self.weight, bias: &self.bias, groups: self.groups, eps: self.eps };
        fused::group_norm(&x.map, x.by.as_ref(), &affine, silu)
    }

    fn plain(&self, x: &Tensor) -> Tensor {
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
    /// Channels without those of zeros that fill up the weight: what it reads and what it gives.
    input: i64,
    output: i64,
}

impl Conv2d {
    /// With a bias.
    pub fn new(weights: &Weights, input: i64, output: i64, kernel: i64, stride: i64, padding: i64) -> Result<Self> {
        let bias = Some(weights.get("bias", &[output])?);
        Ok(Self { bias, ..Self::without_bias(weights, input, output, kernel, stride, padding)? })
    }

    pub fn without_bias(
        weights: &Weights,
        input: i64,
        output: i64,
        kernel: i64,
        stride: i64,
        padding: i64,
    ) -> Result<Self> {
        let weight = weights.get("weight", &[output, input, kernel, kernel])?;
        Ok(Self { weight, bias: None, stride, padding, input, output })
    }

    /// For maps with the channels last: on CUDA in 16 bits the weight is laid out for them once and filled up
    /// with channels of zeros, for without them a picture's few channels are computed off the tensor cores. `weights` is
    /// where it is from.
    pub fn channels_last(mut self, weights: &Weights) -> Self {
        if fused::fits(&self.weight) {
            let missing = |channels: i64| (CHANNEL_UNIT - channels % CHANNEL_UNIT) % CHANNEL_UNIT;
            if self.weight.size()[2] > 1 && missing(self.input) + missing(self.output) > 0 {
                let filled = [0, 0, 0, 0, 0, missing(self.input), 0, missing(self.output)];
                self.weight = self.weight.constant_pad_nd(filled);
            }
            self.weight = channels_last(&self.weight);
            weights.laid_out("weight", &self.weight.narrow(0, 0, self.output).narrow(1, 0, self.input));
        }
        self
    }

    /// [batch, input, height, width] → [batch, output, height', width']
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.apply(x, self.bias.as_ref())
    }

    /// The same with its own bias or another one, which is left for the next layer where that adds it on its
    /// way: libtorch takes the whole map in hand again for it.
    pub fn forward_deferring(&self, x: &Tensor, bias: Option<&Tensor>) -> DeferredBias {
        let bias = bias.or(self.bias.as_ref());
        match fused::fits(x) {
            true => DeferredBias { map: self.apply(x, None), by: bias.map(Tensor::shallow_clone) },
            false => DeferredBias { map: self.apply(x, bias), by: None },
        }
    }

    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    fn apply(&self, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        if let Some(out) = self.of_places(x, bias) {
            return out;
        }
        let [output, input] = [self.weight.size()[0], self.weight.size()[1]];
        let convolve = |x: &Tensor, bias: Option<&Tensor>| {
            x.conv2d(&self.weight, bias, [self.stride; 2], [self.padding; 2], [1, 1], 1)
        };
        let is_whole = (input, output) == (self.input, self.output);
        if is_whole && !fused::fits(x) {
            return convolve(x, bias);
        }
        let out = if is_whole {
            convolve(x, None)
        } else {
            convolve(&x.constant_pad_nd([0, 0, 0, 0, 0, input - self.input]), None).narrow(1, 0, self.output)
        };
        match bias {
            // libtorch adds it in a pass of its own, too, and a slow one.
            Some(bias) if fused::add_channel_bias(&out, bias).is_none() => out + bias.view([1, -1, 1, 1]),
            _ => out,
        }
    }

    /// A kernel of one place over channels that lie last is a matrix product, to which the bias costs nothing.
    fn of_places(&self, x: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
        if !fused::fits(x) || self.weight.size()[2..] != [1, 1] || (self.stride, self.padding) != (1, 0) {
            return None;
        }
        let places = x.permute([0, 2, 3, 1]);
        let (batch, height, width, input) = places.size4().ok()?;
        if !places.is_contiguous() {
            return None;
        }
        let out = places.view([-1, input]).linear(&self.weight.view([self.output, input]), bias);
        Some(out.view([batch, height, width, self.output]).permute([0, 3, 1, 2]))
    }

    /// Where the kernel steps by its own width, nothing padded, each patch is a row of one matrix product, as
    /// which a GPU computes it: [batch, input, height, width] → [batch, patches, output]
    pub fn patches(&self, x: &Tensor) -> Tensor {
        let ([batch, input, height, width], [output, _, side, _]) = (&x.size()[..], &self.weight.size()[..]) else {
            unreachable!("a picture and a kernel have four axes")
        };
        let is_grid = self.stride == *side && self.padding == 0 && height % side == 0 && width % side == 0;
        if !is_grid || !x.device().is_cuda() {
            return self.forward(x).flatten(2, -1).transpose(1, 2);
        }
        let cut = x.reshape([*batch, *input, height / side, *side, width / side, *side]).permute([0, 2, 4, 1, 3, 5]);
        cut.reshape([*batch, -1, input * side * side]).linear(&self.weight.reshape([*output, -1]), self.bias.as_ref())
    }
}

/// Whether convolutions want the channels first in memory: float32 on CUDA. All others want them last, TensorFloat-32 too: its
/// kernels read them so, and would rearrange every map.
pub fn wants_channels_first(device: Device, kind: Kind) -> bool {
    device.is_cuda() && kind == Kind::Float && !tf32_is_chosen()
}

/// A convolution's weight [output, input, height, width] as [`wants_channels_first`] says.
pub fn laid_out(weight: Tensor) -> Tensor {
    if wants_channels_first(weight.device(), weight.kind()) {
        return weight;
    }
    weight.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// A convolution whose negative outputs become 0: in float32 libtorch takes one more pass over its output for the ReLU, and on
/// CUDA another for the bias; oneDNN and cuDNN do all of it at once.
pub fn conv_relu(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: i64, padding: [i64; 2]) -> Tensor {
    let (stride, dilation) = ([stride; 2], [1, 1]);
    if x.device().is_cuda()
        && x.kind() == Kind::Float
        && let Ok(out) = x.f_cudnn_convolution_relu(weight, Some(bias), stride, padding, dilation, 1)
    {
        return out;
    }
    if x.device() == Device::Cpu
        && x.kind() == Kind::Float
        && let Some(out) = onednn_conv_relu(x, weight, bias, stride[0], &padding)
    {
        return out;
    }
    x.conv2d(weight, Some(bias), stride, padding, dilation, 1).relu_()
}
