//! The U-Net as the steps of a drawing see it.

use tch::Tensor;

use super::transformer::Text;
use super::unet::{Known, Texts, Unet};
use crate::models::diffusion::steps::Denoiser;

impl Denoiser for Unet {
    type Texts = Texts;

    /// More places keep a GPU busy as it is, and the captured work would keep much memory. Sixteen pictures of 512 × 512
    /// pixels, both ways of guidance.
    const MOST_CAPTURED_PLACES: i64 = 2 * 16 * 64 * 64;

    fn step(&self, latents: &Tensor, times: &Tensor, texts: &Texts) -> Tensor {
        self.step(latents, &Known { times, texts })
    }

    fn copied(texts: &Texts) -> Texts {
        texts.iter().map(|layers| layers.iter().map(Text::copy).collect()).collect()
    }

    fn are_alike(own: &Texts, other: &Texts) -> bool {
        own.iter().flatten().zip(other.iter().flatten()).all(|(own, other)| own.is_like(other))
    }

    fn overwrite(own: &mut Texts, other: &Texts) {
        for (own, other) in own.iter_mut().flatten().zip(other.iter().flatten()) {
            own.become_like(other);
        }
    }
}
