//! The denoiser in its place: read when it is asked for, or in the background before, and given up for its memory.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Result;
use tch::Device;

use super::config::TRANSFORMER;
use super::mmdit::{Config, Mmdit};
use crate::models::diffusion::lora::{Adaptable, Lora};
use crate::models::diffusion::pipeline_source::PipelineSource;
use crate::models::diffusion::steps::CaptureSlot;
use crate::runtime::{Coming, Precision};

/// With what its weights are adapted by.
type Read = (Mmdit, Adaptable);

/// One denoiser on one device, with its low-rank adapters and its captured step.
#[derive(Debug)]
pub struct DenoiserPlace {
    source: PipelineSource,
    config: Config,
    device: Device,
    precision: Precision,
    here: RefCell<Option<(Rc<Mmdit>, Adaptable)>>,
    /// While it is read beside other work.
    coming: RefCell<Option<Coming<Read>>>,
    /// What is merged into it, also when it comes later.
    loras: RefCell<Rc<Vec<Lora>>>,
    capture: CaptureSlot<Mmdit>,
}

impl DenoiserPlace {
    /// Nothing is read yet.
    pub fn new(source: PipelineSource, config: Config, device: Device, precision: Precision) -> Self {
        let (here, coming, loras) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { source, config, device, precision, here, coming, loras, capture: CaptureSlot::default() }
    }

    /// The same with a denoiser of its own on another device.
    pub fn on(&self, device: Device) -> Self {
        let place = Self::new(self.source.clone(), self.config.clone(), device, self.precision);
        Self { loras: self.loras.clone(), ..place }
    }

    /// The denoiser, read if it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or an adapter does not fit.
    pub fn get(&self) -> Result<Rc<Mmdit>> {
        self.settle()?;
        if let Some((here, _)) = self.here.borrow().as_ref() {
            return Ok(here.clone());
        }
        self.keep(read(&self.source, &self.config, self.device, self.precision)?)
    }

    /// Has it read in the background.
    pub fn begin(&self) {
        let (source, config) = (self.source.clone(), self.config.clone());
        let (device, precision) = (self.device, self.precision);
        let read = move || tch::no_grad(|| read(&source, &config, device, precision));
        *self.coming.borrow_mut() = Some(Coming::start(read));
    }

    /// Waits for what is read in the background.
    ///
    /// # Errors
    /// As of [`Self::get`].
    pub fn settle(&self) -> Result<()> {
        match self.coming.take() {
            Some(coming) => self.keep(coming.take()?).map(drop),
            None => Ok(()),
        }
    }

    /// Adapts what was read, and keeps it.
    fn keep(&self, (denoiser, weights): Read) -> Result<Rc<Mmdit>> {
        weights.merge(&self.loras.borrow())?;
        let denoiser = Rc::new(denoiser);
        *self.here.borrow_mut() = Some((denoiser.clone(), weights));
        Ok(denoiser)
    }

    /// Merges these low-rank adapters, and no others, into its weights.
    ///
    /// # Errors
    /// When one does not fit.
    pub fn adapt(&self, loras: Rc<Vec<Lora>>) -> Result<()> {
        *self.loras.borrow_mut() = loras.clone();
        match self.here.borrow().as_ref() {
            Some((_, weights)) => weights.merge(&loras).map(drop),
            None => Ok(()),
        }
    }

    /// Gives its memory back.
    pub fn unload(&self) {
        self.capture.forget();
        *self.here.borrow_mut() = None;
    }

    /// Bytes on the device that it still needs.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn missing_bytes(&self) -> Result<u64> {
        match self.here.borrow().as_ref() {
            Some(_) => Ok(0),
            None => self.source.bytes(TRANSFORMER, self.precision.kind),
        }
    }

    pub fn capture(&self) -> &CaptureSlot<Mmdit> {
        &self.capture
    }
}

fn read(source: &PipelineSource, config: &Config, device: Device, precision: Precision) -> Result<Read> {
    source.build_adaptable(TRANSFORMER, device, precision, |weights| Mmdit::new(weights, config))
}
