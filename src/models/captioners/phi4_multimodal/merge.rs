//! From the crops' features to the tokens that stand for a picture: 2×2 pooling, the crops laid out
//! as one map with a separator after each row, then the global view, then the projection to the
//! language model's width. Source: `Phi4MultimodalImageEmbedding`.

use anyhow::Result;
use tch::Tensor;

use super::config::Config;
use super::image_processor::Shape;
use crate::checkpoints::Weights;
use crate::nn::Linear;

/// Pooling, separators and projection.
pub struct ImageMerge {
    img_projection_up: Linear,
    img_projection_down: Linear,
    /// Between the crops and the global view.
    global_img_feature_extensor: Tensor, // [1, 1, vision hidden]
    /// After each row.
    sub_img_feature_extensor: Tensor, // [1, 1, 1, vision hidden]
    grid: i64,
}

impl ImageMerge {
    pub fn new(weights: &Weights, config: &Config) -> Result<Self> {
        let (vision, hidden) = (config.vision.hidden_size, config.decoder.hidden_size);
        Ok(Self {
            img_projection_up: Linear::new(&weights.at("img_projection_up"), vision, hidden)?,
            img_projection_down: Linear::new(&weights.at("img_projection_down"), hidden, hidden)?,
            global_img_feature_extensor: weights.get("global_img_feature_extensor", &[1, 1, vision])?,
            sub_img_feature_extensor: weights.get("sub_img_feature_extensor", &[1, 1, 1, vision])?,
            grid: config.vision.grid(),
        })
    }

    /// The tower's features [all crops of all pictures, patches, vision hidden] and the pictures'
    /// shapes → for each picture [its tokens, hidden].
    pub fn forward(&self, features: &Tensor, shapes: &[Shape]) -> Vec<Tensor> {
        let size = features.size();
        let pooled = features
            .view([size[0], self.grid, self.grid, size[2]])
            .permute([0, 3, 1, 2])
            .avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)
            .permute([0, 2, 3, 1]); // [crops, grid / 2, grid / 2, vision hidden]
        let mut first = 0;
        let mut counts = Vec::with_capacity(shapes.len());
        let mut rows = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let crops = shape.crops();
            let row = self.arrange(&pooled.narrow(0, first, crops), shape);
            first += crops;
            counts.push(row.size()[0]);
            rows.push(row);
        }
        let all = self.img_projection_up.forward(&Tensor::cat(&rows, 0)).gelu("none");
        self.img_projection_down.forward(&all).split_with_sizes(counts, 0)
    }

    /// One picture: [crops, side, side, vision hidden], the global view first → [tokens, vision hidden]
    fn arrange(&self, pooled: &Tensor, shape: &Shape) -> Tensor {
        let (side, width) = (pooled.size()[1], pooled.size()[3]);
        let map = pooled
            .narrow(0, 1, shape.rows * shape.columns)
            .view([shape.rows, shape.columns, side, side, width])
            .permute([0, 2, 1, 3, 4])
            .reshape([shape.rows * side, shape.columns * side, width])
            .narrow(0, 0, shape.pooled_rows())
            .narrow(1, 0, shape.pooled_columns());
        let crops = self.with_separators(&map);
        let global = self.with_separators(&pooled.select(0, 0));
        Tensor::cat(&[crops, self.global_img_feature_extensor.view([1, width]), global], 0)
    }

    /// [rows, columns, width] → [rows · (columns + 1), width]
    fn with_separators(&self, map: &Tensor) -> Tensor {
        let (rows, width) = (map.size()[0], map.size()[2]);
        let separators = self.sub_img_feature_extensor.view([1, 1, width]).expand([rows, 1, width], false);
        Tensor::cat(&[map, &separators], 1).reshape([-1, width])
    }
}
