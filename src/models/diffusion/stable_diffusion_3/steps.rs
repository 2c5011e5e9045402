//! The steps of a batch of pictures: the velocity with guidance, on tensors that keep their places in memory.
//! On CUDA it is captured once and then replayed, also by later batches of the same size.

use std::fmt;

use anyhow::Result;
use tch::Tensor;

use super::mmdit::Mmdit;
use crate::runtime::{Captured, captures_are_enabled};

pub(super) struct Steps {
    /// [pictures, channels, height, width]
    latents: Tensor,
    /// Texts as the blocks read them, [tokens, texts, size]: with guidance the unwanted of all pictures first.
    context: Tensor,
    /// Shifts, scales and gates of the step, [texts, parts · size]; none before the first.
    modulations: Option<Tensor>,
    guidance: Option<f64>,
    captured: Captured<Tensor>,
}

impl Steps {
    /// `spare`: those of an earlier batch, whose captured work is taken over where it is of the same size.
    pub(super) fn new(spare: Option<Self>, latents: &Tensor, context: &Tensor, guidance: Option<f64>) -> Self {
        if captures_are_enabled()
            && let Some(spare) = spare
            && spare.captured.is_there()
            && (spare.latents.size(), spare.context.size(), spare.guidance)
                == (latents.size(), context.size(), guidance)
        {
            spare.context.shallow_clone().copy_(context);
            return spare;
        }
        let (latents, context) = (latents.zeros_like(), context.shallow_clone());
        Self { latents, context, modulations: None, guidance, captured: Captured::default() }
    }

    /// The velocity at `latents`, as large as they are; valid until the next step.
    pub(super) fn velocity(&mut self, transformer: &Mmdit, latents: &Tensor, modulations: &Tensor) -> Result<Tensor> {
        let is_wanted = self.captured.is_wanted(latents.device());
        if is_wanted || self.captured.is_there() {
            self.latents.copy_(latents);
            let place = self.modulations.get_or_insert_with(|| modulations.zeros_like()).shallow_clone();
            place.shallow_clone().copy_(modulations);
            if is_wanted {
                let work = || Ok(self.work_out(transformer, &self.latents, &place));
                self.captured = Captured::of("a denoising step", latents.device(), work);
            }
        }
        match self.captured.replay()? {
            Some(velocity) => Ok(velocity.shallow_clone()),
            None => Ok(self.work_out(transformer, latents, modulations)),
        }
    }

    fn work_out(&self, transformer: &Mmdit, latents: &Tensor, modulations: &Tensor) -> Tensor {
        let Some(guidance) = self.guidance else { return transformer.forward(latents, &self.context, modulations) };
        let doubled = Tensor::cat(&[latents, latents], 0);
        let parts = transformer.forward(&doubled, &self.context, modulations).chunk(2, 0);
        &parts[0] + (&parts[1] - &parts[0]) * guidance
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (latents, captured) = (&self.latents, &self.captured);
        f.debug_struct("Steps").field("latents", latents).field("captured", captured).finish_non_exhaustive()
    }
}
