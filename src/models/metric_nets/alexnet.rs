//! LPIPS 0.1 on AlexNet: how different two pictures look.
//!
//! Architecture: <https://github.com/richzhang/PerceptualSimilarity> (`lpips/lpips.py`,
//! `lpips/pretrained_networks.py`), the trunk with torchvision's key names. Channel widths are those
//! of the tensors, so a narrower network of the same structure loads too.

use anyhow::{Result, bail, ensure};
use tch::{Kind, Tensor};

use crate::checkpoints::Weights;
use crate::models::Family;
use crate::nn::{conv_relu, laid_out};

/// How it is told, loaded and measured.
pub static FAMILY: Family = Family::metric_net("metric net LPIPS", &["features.0.weight", "lin0.model.1.weight"], true);

/// Smaller pictures leave nothing for the last layers.
pub const MIN_SIZE: u32 = 31;

/// Mean and deviation of the scaling layer, for pixels in [-1, 1].
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// One convolution of the trunk: place in `features`, published width, kernel, stride, padding, and
/// whether a 3×3 maximum of stride 2 comes before it.
const LAYERS: [(usize, i64, i64, i64, i64, bool); 5] = [
    (0, 64, 11, 4, 2, false),
    (3, 192, 5, 1, 2, true),
    (6, 384, 3, 1, 1, true),
    (8, 256, 3, 1, 1, false),
    (10, 256, 3, 1, 1, false),
];

#[derive(Debug)]
struct Layer {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
    pool_before: bool,
    /// The linear head on this layer's output: [1, width, 1, 1]
    head: Tensor,
}

impl Layer {
    fn forward(&self, x: &Tensor) -> Tensor {
        let pooled = self.pool_before.then(|| x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false));
        let x = pooled.as_ref().unwrap_or(x);
        conv_relu(x, &self.weight, &self.bias, self.stride, [self.padding; 2])
    }

    /// Activations of the two pictures [batch, width, height', width'] → [batch]
    fn distance(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let difference = (unit_length(a) - unit_length(b)).square_();
        // Summing over the channels last lets one pass over memory do both sums.
        let per_channel = difference.mean_dim([2i64, 3].as_slice(), false, difference.kind());
        per_channel.matmul(&self.head.view([-1]))
    }
}

/// Divides by the length over the channels, as lpips does it.
fn unit_length(x: &Tensor) -> Tensor {
    let length = x.square().sum_dim_intlist([1i64].as_slice(), true, x.kind()).sqrt_();
    x / (length + 1e-10)
}

/// LPIPS between pictures.
#[derive(Debug)]
pub struct Lpips {
    layers: Vec<Layer>,
    /// The scaling layer for pixels in [0, 1]: [1, 3, 1, 1] each.
    shift: Tensor,
    scale: Tensor,
}

impl Lpips {
    /// `backbone` has AlexNet's `features.N.{weight,bias}` (its `classifier` may be there or not),
    /// `linear` the heads `linN.model.1.weight`; both may be the same place.
    pub fn new(backbone: &Weights, linear: &Weights) -> Result<Self> {
        let mut layers = Vec::new();
        let mut input = 3;
        for (tap, (place, width, kernel, stride, padding, pool_before)) in LAYERS.into_iter().enumerate() {
            let weights = backbone.at("features").at(place);
            let width = match weights.shape("weight").as_deref() {
                Some([width, ..]) => *width,
                _ => width,
            };
            layers.push(Layer {
                weight: laid_out(weights.get("weight", &[width, input, kernel, kernel])?),
                bias: weights.get("bias", &[width])?,
                stride,
                padding,
                pool_before,
                head: linear.at(format!("lin{tap}")).get("model.1.weight", &[1, width, 1, 1])?,
            });
            input = width;
        }
        backbone.at("classifier").ignore();
        // A file of a whole LPIPS repeats the heads as a list and carries the constants of the scaling layer.
        linear.at("lins").ignore();
        linear.at("scaling_layer").ignore();
        let constant = |values: &[f32]| {
            Tensor::from_slice(values).view([1, 3, 1, 1]).to_kind(backbone.kind()).to_device(backbone.device())
        };
        Ok(Self { layers, shift: constant(&SHIFT), scale: constant(&SCALE) })
    }

    /// Two batches of pictures [batch, 3, height, width] in [0, 1], of one size, at least
    /// [`MIN_SIZE`] high and wide → `[batch]` of float32.
    pub fn forward(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let size = a.size();
        ensure!(size == b.size(), "pictures to compare must be of one size: {size:?} and {:?}", b.size());
        self.forward_joined(&Tensor::cat(&[a, b], 0), size[0])
    }

    /// The same of one tensor that holds `pairs` pictures, then those to compare them with, then any
    /// others, which do not count.
    pub fn forward_joined(&self, pixels: &Tensor, pairs: i64) -> Result<Tensor> {
        let size = pixels.size();
        let [rows, 3, height, width] = size[..] else { bail!("pictures are [batch, 3, height, width], not {size:?}") };
        ensure!(2 * pairs <= rows, "{rows} pictures are not {pairs} pairs");
        ensure!(
            height >= MIN_SIZE.into() && width >= MIN_SIZE.into(),
            "pictures of {width}×{height} are too small for LPIPS (at least {MIN_SIZE}×{MIN_SIZE})"
        );
        let mut x = (pixels * 2.0 - 1.0 - &self.shift) / &self.scale;
        let mut total = Tensor::zeros([pairs], (Kind::Float, x.device()));
        for layer in &self.layers {
            x = layer.forward(&x); // 224 → 55, 27, 13, 13, 13
            let distance = layer.distance(&x.narrow(0, 0, pairs), &x.narrow(0, pairs, pairs));
            total += distance.to_kind(Kind::Float);
        }
        Ok(total)
    }
}
