//! Noise that a solver adds between steps, each picture's from its own generator.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::runtime::NoiseGenerator;

/// Draws what the pictures' generators would give next, however many pictures there are: when the first step asks, the
/// noise of all steps is drawn picture by picture and goes to the device at once.
#[derive(Debug)]
pub struct StepNoise {
    pub seeds: Vec<u64>,
    /// Of one picture: [1, channels, height, width].
    pub shape: [i64; 4],
    /// Draws of this shape that each generator has made before the first step.
    pub before: usize,
    pub steps: usize,
    /// Number type that is drawn in: the stream of numbers depends on it.
    pub drawn_in: Kind,
    pub kind: Kind,
    pub device: Device,
    /// [steps, batch, channels, height, width]
    pub drawn: Option<Tensor>,
    pub next: usize,
}

impl StepNoise {
    /// [batch, channels, height, width]
    pub fn next(&mut self) -> Result<Tensor> {
        let drawn = match self.drawn.take() {
            Some(drawn) => drawn,
            None => self.draw()?,
        };
        let noise = drawn.f_get(self.next as i64)?;
        self.next += 1;
        self.drawn = Some(drawn);
        Ok(noise)
    }

    fn draw(&self) -> Result<Tensor> {
        let picture = |&seed: &u64| {
            let mut generator = NoiseGenerator::new(seed)?;
            let mut draw = |_| generator.normal(&self.shape, self.drawn_in);
            let draws: Vec<Tensor> = (0..self.before + self.steps).map(&mut draw).collect::<Result<_>>()?;
            anyhow::Ok(Tensor::stack(&draws[self.before..], 0)) // [steps, 1, ...]
        };
        let pictures: Vec<Tensor> = self.seeds.iter().map(picture).collect::<Result<_>>()?;
        Ok(Tensor::cat(&pictures, 1).to_device(self.device).to_kind(self.kind))
    }
}
