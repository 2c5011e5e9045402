//! What a pipeline still loads when it can be used.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use tch::Device;

use super::model::{DiffusionModel, PipelineOutline};
use super::pipeline_source::PipelineSource;
use crate::nn::{Library, load_libraries, warm_up};
use crate::runtime::{Background, Precision, catch_panics, free_memory};

/// Free memory of a device from which on networks are rehearsed, which takes up to two gigabytes for a moment.
const ROOMY: u64 = 32 << 30;

/// Libraries and kernels of a GPU that load in the background. Nothing that they compute is used.
#[derive(Debug, Default)]
pub struct Loading {
    /// Ends when all is here that texts are computed with.
    texts: RefCell<Option<Receiver<()>>>,
    threads: RefCell<Vec<Background>>,
}

impl Loading {
    /// Begins, where the device is a GPU.
    pub fn begin<M: DiffusionModel>(
        source: &PipelineSource,
        attention: Option<i64>,
        device: Device,
        precision: Precision,
    ) -> Self {
        let libraries: Vec<Library> =
            [Library::Convolutions].into_iter().chain(attention.map(Library::LongAttention)).collect();
        let mut threads = load_libraries(&libraries, device, precision.kind);
        // Random weights are drawn from the same numbers.
        let has_room = free_memory(device).is_some_and(|free| free > ROOMY) && !source.is_random();
        let (source, (sender, texts)) = (source.clone(), channel());
        threads.extend(warm_up(device, move || {
            // What goes wrong here goes wrong again where it matters.
            let rehearse = |part: fn(&M::Outline, Device, Precision) -> Result<()>| {
                let _ = catch_panics(|| part(&M::Outline::read(source.clone())?, device, precision));
            };
            if has_room {
                rehearse(|outline, device, precision| M::rehearse_texts(outline, device, precision.kind));
            } else {
                [Library::Products, Library::Norms]
                    .into_iter()
                    .for_each(|library| library.use_once(device, precision.kind));
            }
            // Nobody may be waiting any more.
            let _ = sender.send(());
            if has_room {
                rehearse(M::rehearse_pictures);
            }
        }));
        Self { texts: RefCell::new((!threads.is_empty()).then_some(texts)), threads: RefCell::new(threads) }
    }

    /// Waits for what texts are computed with.
    pub fn wait_for_texts(&self) {
        if let Some(texts) = self.texts.take() {
            // A thread that could not be started sends nothing, and is waited for no longer.
            let _ = texts.recv();
        }
    }

    /// Waits for all, and for the networks of `model`; `origin` is where they come from.
    pub fn settle(&self, model: &impl DiffusionModel, origin: &str) -> Result<()> {
        model.settle().with_context(|| origin.to_string())?;
        self.threads.take();
        Ok(())
    }
}
