//! Where the weights of a model that was built are in memory, so that their numbers can be changed while it stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;

/// Names → the memory of weights. Layers that lay a weight out anew (side by side with others, with its channels last)
/// say where its numbers are then, see [`Weights::laid_out`](super::Weights::laid_out). Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<BTreeMap<String, Place>>>);

/// The memory of a weight.
#[derive(Debug)]
pub enum Place {
    /// Of the shape that the checkpoint has.
    Plain(Tensor),
    /// e4m3 of that shape, and a float32 scale for each row of it: [rows, 1].
    Float8(Tensor, Tensor),
}

impl Place {
    fn shallow_clone(&self) -> Self {
        match self {
            Self::Plain(tensor) => Self::Plain(tensor.shallow_clone()),
            Self::Float8(values, scales) => Self::Float8(values.shallow_clone(), scales.shallow_clone()),
        }
    }
}

impl Places {
    /// The weight of this name; what is written into it is computed with from then on.
    pub fn get(&self, name: &str) -> Option<Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Place::shallow_clone)
    }

    /// The shapes of all of them, as the checkpoint has them.
    pub fn shapes(&self) -> BTreeMap<String, Vec<i64>> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = |(Place::Plain(tensor) | Place::Float8(tensor, _)): &Place| tensor.size();
        places.iter().map(|(name, place)| (name.clone(), size(place))).collect()
    }

    /// Only what a layer multiplies with: biases and norms are not asked for.
    pub(super) fn note(&self, name: String, tensor: &Tensor) {
        if tensor.dim() > 1 {
            self.put(name, Place::Plain(tensor.shallow_clone()));
        }
    }

    pub(super) fn put(&self, name: String, place: Place) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, place);
    }
}
