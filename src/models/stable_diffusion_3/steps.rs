//! The steps of a batch of pictures: the velocity with guidance, on tensors that keep their places in memory.
//! On CUDA it is recorded once and then only asked for again, also by later batches of the same size.

use std::fmt;

use anyhow::Result;
use tch::Tensor;

use super::mmdit::Mmdit;
use crate::nn::fused;
use crate::runtime::{Graph, records};

pub(super) struct Steps {
    /// [pictures, channels, height, width]
    latents: Tensor,
    /// Texts as the blocks read them, [tokens, texts, size]: with guidance the unwanted of all pictures first.
    context: Tensor,
    /// Shifts, scales and gates of the step, [texts, parts · size]; none before the first.
    modulations: Option<Tensor>,
    guidance: Option<f64>,
    recorded: Option<(Graph, Tensor)>,
}

impl Steps {
    /// `spare`: those of an earlier batch, whose recording is taken over where it is of the same size.
    pub(super) fn new(spare: Option<Self>, latents: &Tensor, context: &Tensor, guidance: Option<f64>) -> Self {
        if fused::enabled()
            && let Some(spare) = spare
            && spare.recorded.is_some()
            && (spare.latents.size(), spare.context.size(), spare.guidance)
                == (latents.size(), context.size(), guidance)
        {
            spare.context.shallow_clone().copy_(context);
            return spare;
        }
        let (latents, context) = (latents.zeros_like(), context.shallow_clone());
        Self { latents, context, modulations: None, guidance, recorded: None }
    }

    /// The velocity at `latents`, as large as they are; valid until the next step.
    pub(super) fn velocity(&mut self, transformer: &Mmdit, latents: &Tensor, modulations: &Tensor) -> Result<Tensor> {
        if !latents.device().is_cuda() || !fused::enabled() || !records() {
            return Ok(self.work_out(transformer, latents, modulations));
        }
        self.latents.copy_(latents);
        let place = self.modulations.get_or_insert_with(|| modulations.zeros_like()).shallow_clone();
        place.shallow_clone().copy_(modulations);
        if self.recorded.is_none() {
            let work = || Ok(self.work_out(transformer, &self.latents, &place));
            self.recorded = Graph::record(latents.device(), work)?;
        }
        match &self.recorded {
            Some((graph, velocity)) => {
                graph.replay()?;
                Ok(velocity.shallow_clone())
            }
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
        let recorded = self.recorded.is_some();
        f.debug_struct("Steps").field("latents", &self.latents).field("recorded", &recorded).finish_non_exhaustive()
    }
}
