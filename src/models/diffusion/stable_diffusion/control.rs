//! A ControlNet's part in one drawing: the picture that it reads, and when it counts how much.

use std::rc::Rc;

use anyhow::Result;
use image::RgbImage;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::controlnet::ControlNet;
use super::steps::Steering;
use super::unet::Conditioning;
use crate::images::{self, Filter};
use crate::models::ControlRequest;

/// What steers a drawing.
#[derive(Debug)]
pub struct Control {
    net: Rc<ControlNet>,
    /// [batch, first width, height, width]
    hint: Tensor,
    scale: f64,
    start: f64,
    end: f64,
}

impl Control {
    /// For pictures of this size.
    pub fn new(
        net: Rc<ControlNet>,
        request: &ControlRequest,
        (width, height): (i64, i64),
        device: Device,
    ) -> Result<Self> {
        let read = |picture: &RgbImage| {
            let picture = images::resize(picture, width as u32, height as u32, Filter::Lanczos);
            match request.map {
                Some(map) => map.of(&picture),
                None => picture,
            }
        };
        let pictures: Vec<RgbImage> = request.images.par_iter().map(read).collect();
        let pixels = images::batch_tensor(&pictures)?.to_device(device).to_kind(Kind::Float) / 255.0;
        let hint = net.embed(&pixels);
        Ok(Self { net, hint, scale: request.scale, start: request.start, end: request.end })
    }

    /// With the U-Net's times of all steps [steps, its numbers], its own behind them. `texts` are those of the U-Net.
    pub fn steer(
        &self,
        texts: &Tensor,
        both_ways: bool,
        timesteps: &[f64],
        times: Tensor,
    ) -> (Option<Steering>, Tensor) {
        let Conditioning { times: own, texts: read } = self.net.condition(texts, timesteps);
        let hint = if both_ways { Tensor::cat(&[&self.hint, &self.hint], 0) } else { self.hint.shallow_clone() };
        let scales: Vec<f32> = (0..timesteps.len()).map(|step| self.scale_at(step, timesteps.len()) as f32).collect();
        let scales = Tensor::from_slice(&scales).to_device(times.device()).to_kind(times.kind()).unsqueeze(1);
        let steering = Steering { net: self.net.clone(), hint, texts: read, times: times.size()[1] };
        (Some(steering), Tensor::cat(&[times, own, scales], 1))
    }

    /// Only steps that lie wholly between start and end count.
    fn scale_at(&self, step: usize, steps: usize) -> f64 {
        let share = |step: usize| step as f64 / steps as f64;
        if share(step) < self.start || share(step + 1) > self.end { 0.0 } else { self.scale }
    }
}
