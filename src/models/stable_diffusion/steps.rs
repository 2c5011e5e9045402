//! The U-Net's steps of a batch of pictures. On CUDA a step is recorded once, on tensors that keep their places
//! in memory, and then only asked for again, also for later batches of the same size: the host would take
//! longer to start some hundred kernels than the GPU takes to run them.

use std::cell::{Cell, RefCell};
use std::fmt;

use anyhow::Result;
use tch::Tensor;

use super::transformer::Text;
use super::unet::{Conditioning, Known, Texts, Unet};
use crate::nn::fused;
use crate::runtime::{Graph, catch_panics, one_line, records};

/// Places of latents, of all pictures and both ways of guidance, up to which a step is recorded: more keep a
/// GPU busy as it is, and the recording would keep much memory. Sixteen pictures of 512 × 512 pixels.
const RECORDED_PLACES: i64 = 2 * 16 * 64 * 64;

/// What one drawing leaves for the next.
#[derive(Debug, Default)]
pub struct Spare {
    recording: RefCell<Option<Recording>>,
    /// Recording failed once, and is not tried again.
    given_up: Cell<bool>,
}

/// A recorded step, and where it finds what it reads.
struct Recording {
    /// [batch, channels, height, width]
    latents: Tensor,
    /// [channels of all resnets]
    times: Tensor,
    texts: Texts,
    graph: Graph,
    output: Tensor,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("latents", &self.latents).finish_non_exhaustive()
    }
}

impl Recording {
    /// Records a step like this one; None where nothing can be recorded.
    fn make(unet: &Unet, latents: &Tensor, times: &Tensor, texts: Texts) -> Result<Option<Self>> {
        let (latents, times) = (latents.copy(), times.copy());
        let known = Known { times: &times, texts: &texts };
        let recorded = Graph::record(latents.device(), || Ok(unet.step(&latents, &known)))?;
        Ok(recorded.map(|(graph, output)| Self { latents, times, texts, graph, output }))
    }

    fn fits(&self, latents: &Tensor, texts: &Texts) -> bool {
        let pairs = self.texts.iter().flatten().zip(texts.iter().flatten());
        self.latents.size() == latents.size() && pairs.into_iter().all(|(own, other)| own.is_like(other))
    }

    /// A copy of the output, for the next step is written to the same place.
    fn replay(&mut self, latents: &Tensor, times: &Tensor) -> Result<Tensor> {
        self.latents.copy_(latents);
        self.times.copy_(times);
        self.graph.replay()?;
        Ok(self.output.copy())
    }
}

/// The steps of one drawing.
pub struct Steps<'a> {
    unet: &'a Unet,
    spare: &'a Spare,
    conditioning: Conditioning,
    /// Whether the recording knows the texts of this drawing.
    is_recorded: bool,
}

impl<'a> Steps<'a> {
    /// `text`: [batch, tokens, width]; `timesteps`: all of them, in the order of the steps.
    pub fn new(unet: &'a Unet, spare: &'a Spare, text: &Tensor, timesteps: &[f64]) -> Self {
        Self { unet, spare, conditioning: unet.condition(text, timesteps), is_recorded: false }
    }

    /// The U-Net's output at this step: latents [batch, in_channels, height, width] → the same with out_channels.
    pub fn forward(&mut self, latents: &Tensor, step: usize) -> Result<Tensor> {
        let times = self.conditioning.times.get(step as i64);
        if !self.is_recorded && self.may_record(latents) {
            self.prepare(latents, &times);
        }
        if self.is_recorded
            && let Some(recording) = self.spare.recording.borrow_mut().as_mut()
        {
            return recording.replay(latents, &times);
        }
        Ok(self.unet.step(latents, &Known { times: &times, texts: &self.conditioning.texts }))
    }

    fn may_record(&self, latents: &Tensor) -> bool {
        let size = latents.size();
        let few = size[0] * size[2] * size[3] <= RECORDED_PLACES;
        few && latents.device().is_cuda() && fused::enabled() && records() && !self.spare.given_up.get()
    }

    /// Hands the texts to the recording that is there, or makes another one instead of it.
    fn prepare(&mut self, latents: &Tensor, times: &Tensor) {
        let texts = &self.conditioning.texts;
        let mut place = self.spare.recording.borrow_mut();
        if let Some(recording) = place.as_mut().filter(|recording| recording.fits(latents, texts)) {
            for (own, other) in recording.texts.iter_mut().flatten().zip(texts.iter().flatten()) {
                own.become_like(other);
            }
        } else {
            // Its memory is wanted for the next one.
            *place = None;
            let copies = texts.iter().map(|layers| layers.iter().map(Text::copy).collect()).collect();
            match catch_panics(|| Recording::make(self.unet, latents, times, copies)) {
                Ok(recording) => *place = recording,
                Err(error) => {
                    tracing::warn!("steps are not recorded but done one by one: {}", one_line(&error));
                    self.spare.given_up.set(true);
                }
            }
        }
        self.is_recorded = place.is_some();
    }
}
