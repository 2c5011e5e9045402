//! What every scheduler is: a configuration, and the solver that it builds for one drawing.

use std::fmt::Debug;

use anyhow::Result;
use tch::Tensor;

use super::options::SolverOptions;

/// A scheduler with the options of its configuration.
pub trait SolverConfig: Debug {
    /// The way from noise to a picture in `steps` steps, which are one at least. `options` are none but those that
    /// its row says it takes.
    fn solver(&self, steps: usize, options: &SolverOptions) -> Result<Box<dyn Solver>>;
}

/// The state of one drawing. Every `index` counts in [`Solver::timesteps`], and steps are taken in
/// that order.
pub trait Solver {
    /// The times that the denoiser is told, in the order of denoising. There may be more of them than
    /// steps were asked for: PNDM visits one or several twice.
    fn timesteps(&self) -> &[f64];

    /// How many of [`Solver::timesteps`] a step of those asked for takes: where a picture that starts from a photo begins
    /// is counted in these, see [`first_step`].
    fn order(&self) -> usize {
        1
    }

    /// What standard normal noise is multiplied with where nothing but noise is the start.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// The first step will be `first` of [`Solver::timesteps`]: a picture that starts from a photo
    /// leaves out the steps before. What a solver remembers of earlier steps is forgotten.
    fn skip(&mut self, first: usize);

    /// The sample as the denoiser reads it.
    fn scale_model_input(&self, sample: &Tensor, _index: usize) -> Tensor {
        sample.shallow_clone()
    }

    /// A clean sample with as much noise as step `index` expects, in the sample's number type.
    fn add_noise(&self, original: &Tensor, noise: &Tensor, index: usize) -> Tensor;

    /// The sample after step `index`, computed in float32 and given in the number type of
    /// `model_output`. `noise` draws standard normal noise of the sample's shape.
    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Tensor>;
}

/// The photo's part of the schedule: how many of `steps` are left out for a `strength` from 0 (nothing is
/// drawn) to 1 (nothing of the photo is kept), as diffusers counts.
pub fn first_step(steps: usize, strength: f64) -> usize {
    steps - ((steps as f64 * strength) as usize).min(steps)
}
