//! The U-Net's steps of a batch of pictures. On CUDA a step is captured once, on tensors that keep their places
//! in memory, and then replayed, also for later batches of the same size: the host would take
//! longer to start some hundred kernels than the GPU takes to run them.

use std::cell::RefCell;

use anyhow::Result;
use tch::Tensor;

use super::transformer::Text;
use super::unet::{Conditioning, Known, Texts, Unet};
use crate::runtime::{Captured, may_capture};

/// Places of latents, of all pictures and both ways of guidance, up to which a step is captured: more keep a
/// GPU busy as it is, and the captured work would keep much memory. Sixteen pictures of 512 × 512 pixels.
const CAPTURED_PLACES: i64 = 2 * 16 * 64 * 64;

/// What one drawing leaves for the next.
#[derive(Debug, Default)]
pub struct Spare(RefCell<Option<CapturedStep>>);

/// A captured step, and where it finds what it reads.
#[derive(Debug)]
struct CapturedStep {
    /// [batch, channels, height, width]
    latents: Tensor,
    /// [channels of all resnets]
    times: Tensor,
    texts: Texts,
    output: Captured<Tensor>,
}

impl CapturedStep {
    /// Captures a step like this one.
    fn new(unet: &Unet, latents: &Tensor, times: &Tensor, texts: Texts) -> Self {
        let (latents, times) = (latents.copy(), times.copy());
        let known = Known { times: &times, texts: &texts };
        let output = Captured::of("a denoising step", latents.device(), || Ok(unet.step(&latents, &known)));
        Self { latents, times, texts, output }
    }

    fn fits(&self, latents: &Tensor, texts: &Texts) -> bool {
        let pairs = self.texts.iter().flatten().zip(texts.iter().flatten());
        self.latents.size() == latents.size() && pairs.into_iter().all(|(own, other)| own.is_like(other))
    }

    /// A copy of the output, for the next step is written to the same place.
    fn replay(&mut self, latents: &Tensor, times: &Tensor) -> Result<Option<Tensor>> {
        self.latents.copy_(latents);
        self.times.copy_(times);
        Ok(self.output.replay()?.map(Tensor::copy))
    }
}

/// The steps of one drawing.
pub struct Steps<'a> {
    unet: &'a Unet,
    spare: &'a Spare,
    conditioning: Conditioning,
    /// Whether the captured step knows the texts of this drawing.
    is_prepared: bool,
}

impl<'a> Steps<'a> {
    /// `text`: [batch, tokens, width]; `timesteps`: all of them, in the order of the steps.
    pub fn new(unet: &'a Unet, spare: &'a Spare, text: &Tensor, timesteps: &[f64]) -> Self {
        Self { unet, spare, conditioning: unet.condition(text, timesteps), is_prepared: false }
    }

    /// The U-Net's output at this step: latents [batch, in_channels, height, width] → the same with out_channels.
    pub fn forward(&mut self, latents: &Tensor, step: usize) -> Result<Tensor> {
        let times = self.conditioning.times.get(step as i64);
        let size = latents.size();
        if size[0] * size[2] * size[3] <= CAPTURED_PLACES
            && let Some(output) = self.replay(latents, &times)?
        {
            return Ok(output);
        }
        Ok(self.unet.step(latents, &Known { times: &times, texts: &self.conditioning.texts }))
    }

    /// None where nothing is captured.
    fn replay(&mut self, latents: &Tensor, times: &Tensor) -> Result<Option<Tensor>> {
        let mut place = self.spare.0.borrow_mut();
        if !self.is_prepared {
            self.prepare(&mut place, latents, times);
        }
        match place.as_mut().filter(|step| self.is_prepared && step.output.is_there()) {
            Some(step) => step.replay(latents, times),
            None => Ok(None),
        }
    }

    /// Hands the texts to the captured step that is there, or captures another one instead of it.
    fn prepare(&mut self, place: &mut Option<CapturedStep>, latents: &Tensor, times: &Tensor) {
        let texts = &self.conditioning.texts;
        match place.as_mut() {
            Some(step) if step.fits(latents, texts) => {
                for (own, other) in step.texts.iter_mut().flatten().zip(texts.iter().flatten()) {
                    own.become_like(other);
                }
            }
            // One that failed is not tried again.
            Some(step) if !step.output.is_there() => return,
            _ if !may_capture(latents.device()) => return,
            _ => {
                // Its memory is wanted for the next one.
                *place = None;
                let copies = texts.iter().map(|layers| layers.iter().map(Text::copy).collect()).collect();
                *place = Some(CapturedStep::new(self.unet, latents, times, copies));
            }
        }
        self.is_prepared = true;
    }
}
