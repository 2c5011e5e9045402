//! Dynamic HD: a picture is enlarged to fill a grid of square crops, padded with white, and seen
//! once more whole in one crop. Source: transformers' `Phi4MultimodalImageProcessor`; where the hub's own
//! code rounds differently, [`Layout`] decides.

use std::path::Path;

use anyhow::{Context, Result, bail};
use image::RgbImage;
use rayon::prelude::*;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::config::{Layout, VisionConfig};
use super::vision::Valid;
use crate::checkpoints::config;
use crate::images::{self, Filter};
use crate::models::processor_config::image_processor;
use crate::runtime::{Delivered, upload};

/// The grid of crops of one picture, and how much of it the picture fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub rows: i64,
    pub columns: i64,
    /// Patches that belong to the picture, over the whole grid.
    pub valid: Valid,
    /// Patches along a side of a crop.
    patches: i64,
}

impl Shape {
    /// The global view included.
    pub fn crops(&self) -> i64 {
        1 + self.rows * self.columns
    }

    /// Rows of tokens after pooling.
    pub fn pooled_rows(&self) -> i64 {
        (self.valid.rows + 1) / 2
    }

    pub fn pooled_columns(&self) -> i64 {
        (self.valid.columns + 1) / 2
    }

    /// Tokens that stand for the picture.
    pub fn tokens(&self) -> i64 {
        let side = self.patches / 2;
        side * (side + 1) + 1 + self.pooled_rows() * (self.pooled_columns() + 1)
    }

    /// The filled part of each crop, the global view first.
    pub fn valid_of_crops(&self) -> Vec<Valid> {
        let part = |whole: i64, crop: i64| (whole - crop * self.patches).clamp(0, self.patches);
        let mut valid = vec![Valid { rows: self.patches, columns: self.patches }];
        for row in 0..self.rows {
            for column in 0..self.columns {
                valid.push(Valid { rows: part(self.valid.rows, row), columns: part(self.valid.columns, column) });
            }
        }
        valid
    }
}

/// A picture resized, on the white of the whole grid: uint8 [rows · size, columns · size, 3].
#[derive(Debug)]
pub struct Canvas {
    pixels: Tensor,
    shape: Shape,
}

/// A canvas that has been brought to the device.
#[derive(Debug)]
pub struct DeliveredCanvas {
    pixels: Delivered,
    shape: Shape,
}

impl Canvas {
    /// Its pixels there.
    fn on(&self, device: Device) -> Tensor {
        if self.pixels.device() == device { self.pixels.shallow_clone() } else { upload(&self.pixels, device) }
    }

    /// Brings it to `device`.
    pub fn delivered(self, device: Device) -> DeliveredCanvas {
        DeliveredCanvas { pixels: Delivered::to(device, &self.pixels), shape: self.shape }
    }
}

impl DeliveredCanvas {
    /// For the work of this thread.
    pub fn take(self) -> Result<Canvas> {
        Ok(Canvas { pixels: self.pixels.take()?, shape: self.shape })
    }
}

/// A picture ready for the tower.
#[derive(Debug)]
pub struct Crops {
    /// float32 [1 + rows · columns, 3, size, size] from -1 to 1, the global view first, then row by row.
    pub pixels: Tensor,
    pub shape: Shape,
}

impl Crops {
    /// The same crops with their pixels on `device`.
    pub fn on(&self, device: Device) -> Self {
        Self { pixels: self.pixels.to_device(device), shape: self.shape }
    }
}

/// The image processor's section, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    dynamic_hd: Option<i64>,
    patch_size: Option<i64>,
    size: Option<Size>,
    image_mean: Option<[f64; 3]>,
    image_std: Option<[f64; 3]>,
}

#[derive(Debug, Deserialize)]
struct Size {
    height: i64,
    width: i64,
}

/// How pictures are cut.
#[derive(Debug, Clone)]
pub struct ImageProcessor {
    size: i64,
    patch: i64,
    /// Most crops of a picture, without the global view.
    dynamic_hd: i64,
    mean: [f64; 3],
    std: [f64; 3],
    layout: Layout,
}

impl ImageProcessor {
    /// With the numbers that both layouts' code has as constants.
    pub fn new(vision: &VisionConfig, layout: Layout) -> Self {
        let (mean, std) = ([0.5; 3], [0.5; 3]);
        Self { size: vision.crop_size, patch: vision.patch_size, dynamic_hd: 36, mean, std, layout }
    }

    /// As the model folder's `preprocessor_config.json` or `processor_config.json` says, where there is one.
    pub fn of_folder(folder: &Path, vision: &VisionConfig, layout: Layout) -> Result<Self> {
        let mut processor = Self::new(vision, layout);
        if let Some((path, section)) = image_processor(folder)? {
            config::take(section).and_then(|file| processor.take(file)).with_context(|| path.display().to_string())?;
        }
        Ok(processor)
    }

    fn take(&mut self, file: File) -> Result<()> {
        self.dynamic_hd = file.dynamic_hd.unwrap_or(self.dynamic_hd);
        self.mean = file.image_mean.unwrap_or(self.mean);
        self.std = file.image_std.unwrap_or(self.std);
        let patch = file.patch_size.unwrap_or(self.patch);
        let size = file.size.unwrap_or(Size { height: self.size, width: self.size });
        if (size.height, size.width, patch) != (self.size, self.size, self.patch) {
            bail!(
                "crops of {}x{} with patches of {patch} do not fit the vision tower's {} with {}",
                size.height,
                size.width,
                self.size,
                self.patch
            );
        }
        if self.dynamic_hd < 1 {
            bail!("dynamic_hd is {}, and a picture has at least one crop", self.dynamic_hd);
        }
        Ok(())
    }

    /// The grid (columns, rows) of a picture of this width and height.
    fn grid(&self, width: i64, height: i64) -> (i64, i64) {
        let needed = (ceil_div(width, self.size), ceil_div(height, self.size));
        if needed.0 * needed.1 <= self.dynamic_hd {
            return needed;
        }
        // Too many: the grid whose proportions are closest. Of grids that are equally close a later,
        // larger one wins while the picture has more than half its pixels.
        let aspect = width as f64 / height as f64;
        let area = (width * height) as f64;
        let mut best = ((1, 1), f64::INFINITY);
        for crops in 1..=self.dynamic_hd {
            for columns in (1..=crops).filter(|columns| crops % columns == 0) {
                let rows = crops / columns;
                let difference = (aspect - columns as f64 / rows as f64).abs();
                let is_large = area > 0.5 * (self.size * self.size * crops) as f64;
                if difference < best.1 || (difference == best.1 && is_large) {
                    best = ((columns, rows), difference);
                }
            }
        }
        best.0
    }

    /// The grid, and the size that the picture is brought to inside it (width, height).
    pub fn plan(&self, width: u32, height: u32) -> Result<(Shape, i64, i64)> {
        let (width, height) = (i64::from(width), i64::from(height));
        let (columns, rows) = self.grid(width, height);
        let (full_width, full_height) = (columns * self.size, rows * self.size);
        let by_width = full_width as f64 / width as f64;
        let by_height = full_height as f64 / height as f64;
        let (new_width, new_height) = if by_width < by_height {
            (full_width, (height as f64 * by_width) as i64)
        } else {
            ((width as f64 * by_height) as i64, full_height)
        };
        if new_width < 10 || new_height < 10 {
            bail!(
                "a picture of {width}x{height} is too narrow for this model: it would become {new_width}x{new_height}"
            );
        }
        let patches = self.size / self.patch;
        let valid = Valid {
            rows: rows * patches - (full_height - new_height) / self.patch,
            columns: columns * patches - (full_width - new_width) / self.patch,
        };
        Ok((Shape { rows, columns, valid, patches }, new_width, new_height))
    }

    /// The shape that [`Self::process`] gives a picture of this size.
    pub fn shape(&self, width: u32, height: u32) -> Result<Shape> {
        Ok(self.plan(width, height)?.0)
    }

    /// Cuts a picture, on the CPU. One with a side that would end under 10 pixels is an error.
    pub fn process(&self, picture: &RgbImage) -> Result<Crops> {
        self.cut(&[self.canvas(picture)?], Device::Cpu)?.pop().context("no crops")
    }

    /// Cuts each picture on `device`. They are resized on all cores.
    pub fn process_all(&self, pictures: &[RgbImage], device: Device) -> Result<Vec<Crops>> {
        let canvases: Vec<Canvas> = pictures.par_iter().map(|picture| self.canvas(picture)).collect::<Result<_>>()?;
        self.cut(&canvases, device)
    }

    /// Cuts what was resized on `device`, where what is not there yet travels with eight bits a channel: those with the same
    /// grid that follow one another together.
    pub fn cut(&self, canvases: &[Canvas], device: Device) -> Result<Vec<Crops>> {
        let is_alike = |a: &Canvas, b: &Canvas| (a.shape.rows, a.shape.columns) == (b.shape.rows, b.shape.columns);
        let cut: Vec<Vec<Crops>> =
            canvases.chunk_by(is_alike).map(|alike| self.cut_alike(alike, device)).collect::<Result<_>>()?;
        Ok(cut.into_iter().flatten().collect())
    }

    /// Of at least one canvas.
    fn cut_alike(&self, canvases: &[Canvas], device: Device) -> Result<Vec<Crops>> {
        let (Shape { rows, columns, .. }, size, count) = (canvases[0].shape, self.size, canvases.len() as i64);
        let pixels: Vec<Tensor> = canvases.iter().map(|canvas| canvas.on(device)).collect();
        let whole = self.normalise(&Tensor::stack(&pixels, 0).permute([0, 3, 1, 2]).contiguous()); // [pictures, 3, rows · size, columns · size]
        let global = whole.f_upsample_bicubic2d([size, size], false, None, None)?;
        let crops = whole
            .view([count, 3, rows, size, columns, size])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([count, -1, 3, size, size]);
        let crops = Tensor::cat(&[global.unsqueeze(1), crops], 1).unbind(0);
        Ok(canvases.iter().zip(crops).map(|(canvas, pixels)| Crops { pixels, shape: canvas.shape }).collect())
    }

    /// The part of cutting that is done on the CPU.
    pub fn canvas(&self, picture: &RgbImage) -> Result<Canvas> {
        let (shape, width, height) = self.plan(picture.width(), picture.height())?;
        let resized = self.resize(picture, width, height)?;
        let (full_width, full_height) = (shape.columns * self.size, shape.rows * self.size);
        let pixels = Tensor::full([full_height, full_width, 3], 255, (Kind::Uint8, Device::Cpu));
        pixels.narrow(0, 0, height).narrow(1, 0, width).f_copy_(&resized.permute([1, 2, 0]))?;
        Ok(Canvas { pixels, shape })
    }

    /// uint8 [3, height, width], the channels last in memory. The hub's code has Pillow resize, transformers has libtorch: both
    /// bilinear with antialias, and now and then one grey level apart.
    fn resize(&self, picture: &RgbImage, width: i64, height: i64) -> Result<Tensor> {
        Ok(match self.layout {
            Layout::Original => {
                images::interleaved_tensor(&images::resize(picture, width as u32, height as u32, Filter::Bilinear))
            }
            Layout::Native => images::interleaved_tensor(picture)
                .unsqueeze(0)
                .f_internal_upsample_bilinear2d_aa([height, width], false, None, None)?
                .squeeze_dim(0),
        })
    }

    /// uint8 [pictures, 3, h, w] → float32. Scaled before it is shifted, or both at once, as each layout's
    /// code does: the last bit depends on it.
    fn normalise(&self, pictures: &Tensor) -> Tensor {
        let picture = pictures.to_kind(Kind::Float);
        let device = picture.device();
        let column =
            |values: [f64; 3]| upload(&Tensor::from_slice(&values.map(|value| value as f32)).view([3, 1, 1]), device);
        let scaled = |values: [f64; 3]| column(values.map(|value| value * 255.0));
        match self.layout {
            Layout::Original => (picture / 255.0 - column(self.mean)) / column(self.std),
            Layout::Native => (picture - scaled(self.mean)) / scaled(self.std),
        }
    }
}

fn ceil_div(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}
