//! Short work that is done again and again on inputs of one size, such as the encoding of texts: on CUDA it is
//! recorded, for the host takes longer to start its kernels than the GPU takes to run them.

use std::cell::{Cell, RefCell};
use std::fmt;

use anyhow::Result;
use tch::Tensor;

use super::fused;
use crate::runtime::{Graph, catch_panics, one_line, records};

/// How often the work is done as it comes before it is recorded: recording takes as long as doing it three
/// times, which does not pay for the two texts of a single picture.
const TIMES_BEFORE: usize = 2;

/// What such work leaves for the next time.
#[derive(Default)]
pub struct Repeated {
    times: Cell<usize>,
    recording: RefCell<Option<Recording>>,
    /// Recording failed once, and is not tried again.
    given_up: Cell<bool>,
}

/// Where the recorded work finds its inputs and leaves its outputs.
struct Recording {
    inputs: Vec<Tensor>,
    graph: Graph,
    outputs: Vec<Tensor>,
}

impl Recording {
    fn make(inputs: &[Tensor], work: impl Fn(&[Tensor]) -> Vec<Tensor>) -> Result<Option<Self>> {
        let inputs: Vec<Tensor> = inputs.iter().map(Tensor::copy).collect();
        let Some(device) = inputs.first().map(Tensor::device) else { return Ok(None) };
        let recorded = Graph::record(device, || Ok(work(&inputs)))?;
        Ok(recorded.map(|(graph, outputs)| Self { inputs, graph, outputs }))
    }

    fn fits(&self, inputs: &[Tensor]) -> bool {
        self.inputs.len() == inputs.len() && self.inputs.iter().zip(inputs).all(|(own, new)| own.size() == new.size())
    }

    /// Copies of the outputs, for the next time they are written to the same place.
    fn replay(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        for (own, new) in self.inputs.iter_mut().zip(inputs) {
            own.copy_(new);
        }
        self.graph.replay()?;
        Ok(self.outputs.iter().map(Tensor::copy).collect())
    }
}

impl Repeated {
    /// What `work` makes of the inputs. It must be the same work each time, and not ask the device for a value.
    pub fn run(&self, inputs: &[Tensor], work: impl Fn(&[Tensor]) -> Vec<Tensor>) -> Result<Vec<Tensor>> {
        let may_record = fused::enabled() && records() && inputs.iter().all(|input| input.device().is_cuda());
        if !may_record {
            return Ok(work(inputs));
        }
        let mut place = self.recording.borrow_mut();
        if place.is_none() && self.times.get() >= TIMES_BEFORE && !self.given_up.get() {
            match catch_panics(|| Recording::make(inputs, &work)) {
                Ok(recording) => *place = recording,
                Err(error) => {
                    tracing::warn!("repeated work is not recorded but done piece by piece: {}", one_line(&error));
                    self.given_up.set(true);
                }
            }
        }
        self.times.set(self.times.get() + 1);
        match place.as_mut().filter(|recording| recording.fits(inputs)) {
            Some(recording) => recording.replay(inputs),
            None => Ok(work(inputs)),
        }
    }
}

impl fmt::Debug for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeated").field("times", &self.times.get()).finish_non_exhaustive()
    }
}
