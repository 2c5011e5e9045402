//! The U-Net as the steps of a drawing see it, with what steers it.

use std::rc::Rc;

use tch::Tensor;

use super::controlnet::ControlNet;
use super::transformer::Text;
use super::unet::{Known, Unet, UnetTexts};
use crate::models::diffusion::steps::Denoiser;
use crate::nn::fused;

/// What the denoiser reads beside latents and times.
#[derive(Debug)]
pub struct SdTexts {
    pub texts: UnetTexts,
    pub steering: Option<Steering>,
}

/// A ControlNet at work. Of each step's times its own stand behind those of the U-Net; the last number is its scale.
#[derive(Debug)]
pub struct Steering {
    pub net: Rc<ControlNet>,
    /// [batch, first width, height, width]
    pub hint: Tensor,
    pub texts: UnetTexts,
    /// Numbers of the U-Net's times.
    pub times: i64,
}

impl Denoiser for Unet {
    type Texts = SdTexts;

    /// More places keep a GPU busy as it is, and the captured work would keep much memory. Sixteen pictures of 512 × 512
    /// pixels, both ways of guidance.
    const MOST_CAPTURED_PLACES: i64 = 2 * 16 * 64 * 64;

    fn step(&self, latents: &Tensor, times: &Tensor, texts: &SdTexts) -> Tensor {
        let residuals = texts.steering.as_ref().map(|steering| {
            let count = times.size()[0];
            let own = times.narrow(0, steering.times, count - 1 - steering.times);
            let known = Known { times: &own, texts: &steering.texts };
            steering.net.step(latents, &known, &steering.hint, &times.narrow(0, count - 1, 1))
        });
        let known = Known { times, texts: &texts.texts };
        // Weights were written long before; norms and sums wait for the rest by themselves.
        fused::with_dependent_launch(|| self.step(latents, &known, residuals.as_ref()))
    }

    fn copied(texts: &SdTexts) -> SdTexts {
        let copy = |texts: &UnetTexts| texts.iter().map(|layers| layers.iter().map(Text::copy).collect()).collect();
        let steering = texts.steering.as_ref().map(|steering| Steering {
            net: steering.net.clone(),
            hint: steering.hint.copy(),
            texts: copy(&steering.texts),
            times: steering.times,
        });
        SdTexts { texts: copy(&texts.texts), steering }
    }

    fn are_alike(own: &SdTexts, other: &SdTexts) -> bool {
        let alike = |own: &UnetTexts, other: &UnetTexts| {
            own.iter().flatten().zip(other.iter().flatten()).all(|(own, other)| own.is_like(other))
        };
        let steering = match (&own.steering, &other.steering) {
            (None, None) => true,
            (Some(own), Some(other)) => {
                Rc::ptr_eq(&own.net, &other.net)
                    && own.hint.size() == other.hint.size()
                    && alike(&own.texts, &other.texts)
            }
            _ => false,
        };
        steering && alike(&own.texts, &other.texts)
    }

    fn overwrite(own: &mut SdTexts, other: &SdTexts) {
        let overwrite = |own: &mut UnetTexts, other: &UnetTexts| {
            for (own, other) in own.iter_mut().flatten().zip(other.iter().flatten()) {
                own.become_like(other);
            }
        };
        overwrite(&mut own.texts, &other.texts);
        if let (Some(own), Some(other)) = (&mut own.steering, &other.steering) {
            own.hint.copy_(&other.hint);
            overwrite(&mut own.texts, &other.texts);
        }
    }
}
