//! The blocks of Inception v3: convolutions with folded BatchNorm, and branches side by side.
//!
//! Channel widths are those of the tensors, so a narrower network of the same structure loads too;
//! what does not fit together is an error.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::Variant;
use crate::checkpoints::Weights;
use crate::nn::{conv_relu, laid_out};
use crate::runtime::shim;

const BATCH_NORM_EPS: f64 = 0.001;

/// Convolution, BatchNorm and ReLU as one convolution with a bias.
#[derive(Debug)]
pub(super) struct BasicConv2d {
    weight: Tensor,
    bias: Tensor,
    pub stride: i64,
    pub padding: [i64; 2],
    output: i64,
}

impl BasicConv2d {
    /// `width` is the published number of output channels, used where no file says another.
    fn new(weights: &Weights, input: i64, width: i64, kernel: [i64; 2]) -> Result<Self> {
        let output = match weights.shape("conv.weight").as_deref() {
            Some([output, ..]) => *output,
            _ => width,
        };
        let [height, width] = kernel;
        let weight = weights.get("conv.weight", &[output, input, height, width])?;
        let bn = weights.at("bn");
        let vector = |name: &str| anyhow::Ok(bn.get(name, &[output])?.to_kind(Kind::Double));
        // In float64, so that folding costs no accuracy.
        let scale = vector("weight")? / (vector("running_var")? + BATCH_NORM_EPS).sqrt();
        let bias = vector("bias")? - vector("running_mean")? * &scale;
        let folded = weight.to_kind(Kind::Double) * scale.view([output, 1, 1, 1]);
        Ok(Self {
            weight: laid_out(folded.to_kind(weights.kind())),
            bias: bias.to_kind(weights.kind()),
            stride: 1,
            padding: [0, 0],
            output,
        })
    }

    fn stride(self, stride: i64) -> Self {
        Self { stride, ..self }
    }

    fn padding(self, padding: [i64; 2]) -> Self {
        Self { padding, ..self }
    }

    /// [batch, input, height, width] → [batch, output, height', width']
    pub fn forward(&self, x: &Tensor) -> Tensor {
        // In float32 cuDNN does as well.
        if x.device().is_cuda()
            && x.kind() != Kind::Float
            && let Some(out) = self.product(x)
        {
            return out;
        }
        conv_relu(x, &self.weight, &self.bias, self.stride, self.padding)
    }

    /// [`Self::forward`] of the averages of places, for a convolution over single places: averages of its fewer
    /// outputs are the same, and cost less.
    fn forward_averaged(&self, x: &Tensor, padding_counts: bool) -> Tensor {
        let out = x.conv2d(&self.weight, None::<&Tensor>, [self.stride; 2], self.padding, [1, 1], 1);
        let averages = out.avg_pool2d([3, 3], [1, 1], [1, 1], false, padding_counts, None);
        (averages + self.bias.view([1, -1, 1, 1])).relu_()
    }

    /// [`Self::forward`] of a convolution over single places as a matrix product, in which cuBLAS adds the
    /// bias and cuts at 0 as it writes. None for other convolutions.
    fn product(&self, x: &Tensor) -> Option<Tensor> {
        if self.weight.size()[2..] != [1, 1] || self.stride != 1 {
            return None;
        }
        let by_place = x.permute([0, 2, 3, 1]); // dense: the channels of a place are side by side
        let (places, input) = (by_place.size(), self.weight.size()[1]);
        let weight = self.weight.reshape([self.output, input]);
        let out = shim::linear_relu(&by_place.reshape([-1, input]), &weight, &self.bias)?;
        Some(out.view([places[0], places[1], places[2], self.output]).permute([0, 3, 1, 2]))
    }
}

pub(super) fn max_pool(x: &Tensor) -> Tensor {
    x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false)
}

/// One convolution of a block: name, published width, kernel, and what follows.
fn conv(weights: &Weights, name: &str, input: i64, width: i64, kernel: [i64; 2]) -> Result<BasicConv2d> {
    let padding = [kernel[0] / 2, kernel[1] / 2];
    Ok(BasicConv2d::new(&weights.at(name), input, width, kernel)?.padding(padding))
}

/// Convolutions one after the other, each as wide an input as the one before gives.
#[derive(Debug)]
pub(super) struct Chain(pub(super) Vec<BasicConv2d>);

impl Chain {
    /// `steps`: name, published width, kernel; padded so that the size stays.
    pub fn new(weights: &Weights, input: i64, steps: &[(&str, i64, [i64; 2])]) -> Result<Self> {
        let mut chain = Vec::new();
        let mut channels = input;
        for (name, width, kernel) in steps {
            let step = conv(weights, name, channels, *width, *kernel)?;
            channels = step.output;
            chain.push(step);
        }
        Ok(Self(chain))
    }

    /// The last convolution halves the size instead: stride 2, no padding.
    pub fn halving(mut self) -> Self {
        if let Some(last) = self.0.pop() {
            self.0.push(last.stride(2).padding([0, 0]));
        }
        self
    }

    pub fn output(&self) -> i64 {
        self.0.last().map_or(0, |last| last.output)
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = x.shallow_clone();
        for step in &self.0 {
            x = step.forward(&x);
        }
        x
    }
}

/// What runs beside the convolution branches and joins them last.
#[derive(Debug)]
enum Pool {
    /// 3×3 average, then a 1×1 convolution; whether the padding counts in the averages.
    Average(BasicConv2d, bool),
    /// 3×3 maximum of the same size, then a 1×1 convolution.
    MaximumInPlace(BasicConv2d),
    /// 3×3 maximum with stride 2; as many channels as come in.
    Maximum(i64),
}

impl Pool {
    fn average(weights: &Weights, input: i64, width: i64, variant: Variant) -> Result<Self> {
        let conv = conv(weights, "branch_pool", input, width, [1, 1])?;
        Ok(Self::Average(conv, variant.padding_counts()))
    }

    pub fn output(&self) -> i64 {
        match self {
            Self::Average(conv, _) | Self::MaximumInPlace(conv) => conv.output,
            Self::Maximum(input) => *input,
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Average(conv, padding_counts) => conv.forward_averaged(x, *padding_counts),
            Self::MaximumInPlace(conv) => conv.forward(&x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false)),
            Self::Maximum(_) => max_pool(x),
        }
    }
}

/// Branches whose outputs are joined along the channels: blocks A to D.
#[derive(Debug)]
pub(super) struct Mixed {
    branches: Vec<Chain>,
    pool: Pool,
}

impl Mixed {
    pub fn block_a(weights: &Weights, input: i64, pool_width: i64, variant: Variant) -> Result<Self> {
        let branches = vec![
            Chain::new(weights, input, &[("branch1x1", 64, [1, 1])])?,
            Chain::new(weights, input, &[("branch5x5_1", 48, [1, 1]), ("branch5x5_2", 64, [5, 5])])?,
            Chain::new(
                weights,
                input,
                &[("branch3x3dbl_1", 64, [1, 1]), ("branch3x3dbl_2", 96, [3, 3]), ("branch3x3dbl_3", 96, [3, 3])],
            )?,
        ];
        Ok(Self { branches, pool: Pool::average(weights, input, pool_width, variant)? })
    }

    pub fn block_b(weights: &Weights, input: i64) -> Result<Self> {
        let branches = vec![
            Chain::new(weights, input, &[("branch3x3", 384, [3, 3])])?.halving(),
            Chain::new(
                weights,
                input,
                &[("branch3x3dbl_1", 64, [1, 1]), ("branch3x3dbl_2", 96, [3, 3]), ("branch3x3dbl_3", 96, [3, 3])],
            )?
            .halving(),
        ];
        Ok(Self { branches, pool: Pool::Maximum(input) })
    }

    pub fn block_c(weights: &Weights, input: i64, middle: i64, variant: Variant) -> Result<Self> {
        let branches = vec![
            Chain::new(weights, input, &[("branch1x1", 192, [1, 1])])?,
            Chain::new(
                weights,
                input,
                &[("branch7x7_1", middle, [1, 1]), ("branch7x7_2", middle, [1, 7]), ("branch7x7_3", 192, [7, 1])],
            )?,
            Chain::new(
                weights,
                input,
                &[
                    ("branch7x7dbl_1", middle, [1, 1]),
                    ("branch7x7dbl_2", middle, [7, 1]),
                    ("branch7x7dbl_3", middle, [1, 7]),
                    ("branch7x7dbl_4", middle, [7, 1]),
                    ("branch7x7dbl_5", 192, [1, 7]),
                ],
            )?,
        ];
        Ok(Self { branches, pool: Pool::average(weights, input, 192, variant)? })
    }

    pub fn block_d(weights: &Weights, input: i64) -> Result<Self> {
        let branches = vec![
            Chain::new(weights, input, &[("branch3x3_1", 192, [1, 1]), ("branch3x3_2", 320, [3, 3])])?.halving(),
            Chain::new(
                weights,
                input,
                &[
                    ("branch7x7x3_1", 192, [1, 1]),
                    ("branch7x7x3_2", 192, [1, 7]),
                    ("branch7x7x3_3", 192, [7, 1]),
                    ("branch7x7x3_4", 192, [3, 3]),
                ],
            )?
            .halving(),
        ];
        Ok(Self { branches, pool: Pool::Maximum(input) })
    }

    pub fn output(&self) -> i64 {
        self.branches.iter().map(Chain::output).sum::<i64>() + self.pool.output()
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let mut outputs: Vec<Tensor> = self.branches.iter().map(|branch| branch.forward(x)).collect();
        outputs.push(self.pool.forward(x));
        Tensor::cat(&outputs, 1)
    }
}

/// Block E: its 3×3 branches end in a 1×3 and a 3×1 convolution side by side.
#[derive(Debug)]
pub(super) struct MixedE {
    branch1x1: BasicConv2d,
    branch3x3_1: BasicConv2d,
    branch3x3_2: [BasicConv2d; 2],
    branch3x3dbl: Chain,
    branch3x3dbl_3: [BasicConv2d; 2],
    branch_pool: Pool,
}

impl MixedE {
    /// `is_last`: Mixed_7c.
    pub fn new(weights: &Weights, input: i64, variant: Variant, is_last: bool) -> Result<Self> {
        let branch_pool = if is_last && variant.ends_in_maximum() {
            Pool::MaximumInPlace(conv(weights, "branch_pool", input, 192, [1, 1])?)
        } else {
            Pool::average(weights, input, 192, variant)?
        };
        let branch3x3_1 = conv(weights, "branch3x3_1", input, 384, [1, 1])?;
        let steps = [("branch3x3dbl_1", 448, [1, 1]), ("branch3x3dbl_2", 384, [3, 3])];
        let branch3x3dbl = Chain::new(weights, input, &steps)?;
        let pair = |name: &str, input: i64| {
            anyhow::Ok([
                conv(weights, &format!("{name}a"), input, 384, [1, 3])?,
                conv(weights, &format!("{name}b"), input, 384, [3, 1])?,
            ])
        };
        Ok(Self {
            branch1x1: conv(weights, "branch1x1", input, 320, [1, 1])?,
            branch3x3_2: pair("branch3x3_2", branch3x3_1.output)?,
            branch3x3_1,
            branch3x3dbl_3: pair("branch3x3dbl_3", branch3x3dbl.output())?,
            branch3x3dbl,
            branch_pool,
        })
    }

    pub fn output(&self) -> i64 {
        let pairs = self.branch3x3_2.iter().chain(&self.branch3x3dbl_3).map(|conv| conv.output).sum::<i64>();
        self.branch1x1.output + pairs + self.branch_pool.output()
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let branch3x3 = self.branch3x3_1.forward(x);
        let branch3x3dbl = self.branch3x3dbl.forward(x);
        let outputs = [
            self.branch1x1.forward(x),
            self.branch3x3_2[0].forward(&branch3x3),
            self.branch3x3_2[1].forward(&branch3x3),
            self.branch3x3dbl_3[0].forward(&branch3x3dbl),
            self.branch3x3dbl_3[1].forward(&branch3x3dbl),
            self.branch_pool.forward(x),
        ];
        Tensor::cat(&outputs, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_convolution_over_single_places_is_a_product() {
        let weights = Weights::random(Device::Cpu, Kind::Float).at("conv");
        let conv = BasicConv2d::new(&weights, 6, 4, [1, 1]).unwrap();
        let x = laid_out(Tensor::randn([2, 6, 3, 5], (Kind::Float, Device::Cpu)));
        let (ours, expected) = (conv.product(&x).unwrap(), conv.forward(&x));
        assert_eq!((ours.size(), ours.stride()), (expected.size(), expected.stride()));
        assert!((ours - expected).abs().max().double_value(&[]) < 1e-5);
    }
}
