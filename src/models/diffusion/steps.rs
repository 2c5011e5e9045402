//! The steps of a batch of pictures. On CUDA a step is captured once, on tensors that keep their places in memory, and
//! then replayed, also for later batches of the same size: the host would take longer to start some hundred kernels
//! than the GPU takes to run them.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use anyhow::Result;
use tch::Tensor;

use crate::runtime::{Captured, may_capture};

/// A network that is asked once a step, with what is the same in all steps of a drawing computed before.
pub trait Denoiser {
    /// What it reads of the texts of one drawing, the guidance where that is part of a step.
    type Texts;

    /// Places of latents [batch, channels, height, width] up to which a step is captured: batch · height · width.
    const MOST_CAPTURED_PLACES: i64 = i64::MAX;

    /// One step: latents [batch, channels, height, width] → as large. `times` is what the step's time comes to.
    fn step(&self, latents: &Tensor, times: &Tensor, texts: &Self::Texts) -> Tensor;

    /// The same texts in memory of their own.
    fn copied(texts: &Self::Texts) -> Self::Texts;

    /// Whether a step that was captured with `own` texts fits `other` ones.
    fn are_alike(own: &Self::Texts, other: &Self::Texts) -> bool;

    /// `own` become `other` ones, which are alike, in the same place in memory.
    fn overwrite(own: &mut Self::Texts, other: &Self::Texts);
}

/// A denoiser, and what it knows before the first step.
pub struct Conditioned<D: Denoiser> {
    pub denoiser: Rc<D>,
    pub texts: D::Texts,
    /// What each step's time comes to: [steps, …].
    pub times: Tensor,
}

/// What one drawing leaves for the next. It belongs to one denoiser.
pub struct CaptureSlot<D: Denoiser>(RefCell<Option<CapturedStep<D>>>);

impl<D: Denoiser> CaptureSlot<D> {
    /// Frees what was captured, whose denoiser is about to go.
    pub fn forget(&self) {
        *self.0.borrow_mut() = None;
    }
}

impl<D: Denoiser> Default for CaptureSlot<D> {
    fn default() -> Self {
        Self(RefCell::new(None))
    }
}

impl<D: Denoiser> fmt::Debug for CaptureSlot<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CaptureSlot").field(&self.0.borrow().as_ref().map(|step| &step.output)).finish()
    }
}

/// A captured step, and where it finds what it reads.
struct CapturedStep<D: Denoiser> {
    /// [batch, channels, height, width]
    latents: Tensor,
    times: Tensor,
    texts: D::Texts,
    output: Captured<Tensor>,
}

impl<D: Denoiser> CapturedStep<D> {
    /// Captures a step like this one; with the output of this one.
    fn new(denoiser: &D, latents: &Tensor, times: &Tensor, texts: &D::Texts) -> (Self, Option<Tensor>) {
        let (latents, times, texts) = (latents.copy(), times.copy(), D::copied(texts));
        let work = || Ok(denoiser.step(&latents, &times, &texts));
        let (output, first) = Captured::of_what_is_wanted_now("a denoising step", latents.device(), work);
        (Self { latents, times, texts, output }, first)
    }

    fn fits(&self, latents: &Tensor, texts: &D::Texts) -> bool {
        self.latents.size() == latents.size() && D::are_alike(&self.texts, texts)
    }

    /// The output, which the next replay overwrites.
    fn replay(&mut self, latents: &Tensor, times: &Tensor) -> Result<Option<Tensor>> {
        self.latents.copy_(latents);
        self.times.copy_(times);
        Ok(self.output.replay()?.map(Tensor::shallow_clone))
    }
}

/// The steps of one drawing.
pub struct DenoisingSteps<'a, D: Denoiser> {
    conditioned: Conditioned<D>,
    capture: &'a CaptureSlot<D>,
    /// Whether the captured step knows the texts of this drawing.
    is_prepared: bool,
    /// The output of the step that was captured, until it is asked for.
    first: Option<Tensor>,
}

impl<'a, D: Denoiser> DenoisingSteps<'a, D> {
    pub fn new(conditioned: Conditioned<D>, capture: &'a CaptureSlot<D>) -> Self {
        Self { conditioned, capture, is_prepared: false, first: None }
    }

    /// The denoiser's output at this step, as large as the latents; valid until the next step.
    pub fn run(&mut self, latents: &Tensor, step: usize) -> Result<Tensor> {
        self.run_as(latents, step, |replayed| replayed)
    }

    /// The same, valid for good.
    pub fn run_to_keep(&mut self, latents: &Tensor, step: usize) -> Result<Tensor> {
        self.run_as(latents, step, |replayed| replayed.copy())
    }

    fn run_as(&mut self, latents: &Tensor, step: usize, of_replay: fn(Tensor) -> Tensor) -> Result<Tensor> {
        let times = self.conditioned.times.get(step as i64);
        let size = latents.size();
        if size[0] * size[2] * size[3] <= D::MOST_CAPTURED_PLACES
            && let Some(output) = self.replay(latents, &times)?
        {
            return Ok(of_replay(output));
        }
        Ok(self.conditioned.denoiser.step(latents, &times, &self.conditioned.texts))
    }

    /// None where nothing is captured.
    fn replay(&mut self, latents: &Tensor, times: &Tensor) -> Result<Option<Tensor>> {
        let capture = self.capture;
        let mut place = capture.0.borrow_mut();
        if !self.is_prepared {
            self.is_prepared = self.prepare(&mut place, latents, times);
        }
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match place.as_mut().filter(|step| self.is_prepared && step.output.is_there()) {
            Some(step) => step.replay(latents, times),
            None => Ok(None),
        }
    }

    /// Hands the texts to the captured step that is there, or captures another one instead of it. Whether there is one
    /// for these texts.
    fn prepare(&mut self, place: &mut Option<CapturedStep<D>>, latents: &Tensor, times: &Tensor) -> bool {
        let Conditioned { denoiser, texts, .. } = &self.conditioned;
        match place.as_mut() {
            Some(step) if step.fits(latents, texts) => D::overwrite(&mut step.texts, texts),
            // One that failed is not tried again.
            Some(step) if !step.output.is_there() => return false,
            _ if !may_capture(latents.device()) => return false,
            _ => {
                // Its memory is wanted for the next one.
                *place = None;
                let (step, first) = CapturedStep::new(denoiser.as_ref(), latents, times, texts);
                (*place, self.first) = (Some(step), first);
            }
        }
        true
    }
}
