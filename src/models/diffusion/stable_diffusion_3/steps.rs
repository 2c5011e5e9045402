//! The transformer as the steps of a drawing see it.

use tch::Tensor;

use super::mmdit::Mmdit;
use crate::models::diffusion::guidance::guide;
use crate::models::diffusion::steps::Denoiser;

/// Texts as the blocks read them, and what is done with both ways of guidance.
pub struct MmditTexts {
    /// [tokens, texts, size]: with guidance the unwanted of all pictures first.
    pub context: Tensor,
    /// Where both ways are computed here.
    pub guidance: Option<f64>,
}

impl Denoiser for Mmdit {
    type Texts = MmditTexts;

    fn step(&self, latents: &Tensor, times: &Tensor, texts: &MmditTexts) -> Tensor {
        let Some(guidance) = texts.guidance else { return self.forward(latents, &texts.context, times) };
        guide(&self.forward(&Tensor::cat(&[latents, latents], 0), &texts.context, times), guidance)
    }

    fn copied(texts: &MmditTexts) -> MmditTexts {
        MmditTexts { context: texts.context.copy(), guidance: texts.guidance }
    }

    fn are_alike(own: &MmditTexts, other: &MmditTexts) -> bool {
        (own.context.size(), own.guidance) == (other.context.size(), other.guidance)
    }

    fn overwrite(own: &mut MmditTexts, other: &MmditTexts) {
        own.context.copy_(&other.context);
    }
}
