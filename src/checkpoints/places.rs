//! Where the weights of a model that was built are in memory, so that their numbers can be changed while it stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;

/// Names → the memory of weights. Layers that lay a weight out anew (side by side with others, with its channels last)
/// say where its numbers are then, see [`Weights::laid_out`](super::Weights::laid_out). Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<BTreeMap<String, Tensor>>>);

impl Places {
    /// The weight of this name, of the shape that the checkpoint has; what is written into it is computed with from then
    /// on.
    pub fn get(&self, name: &str) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Tensor::shallow_clone)
    }

    /// Only what a layer multiplies with: biases and norms are not asked for.
    pub(super) fn note(&self, name: String, tensor: &Tensor) {
        if tensor.dim() > 1 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, tensor.shallow_clone());
        }
    }
}
