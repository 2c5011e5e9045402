//! What a pickle makes: values in one arena, which refer to each other by index.

use std::rc::Rc;

use anyhow::Result;
use tch::Kind;

use super::budget::Budget;

/// A value; containers are indices into the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A number of more than 64 bits: where its little-endian bytes are in the pickle.
    Long(usize, usize),
    /// Anything that is read over: floats, bytes, sets, states.
    Opaque,
    Text(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Function(Function),
    Storage(usize),
    Tensor(usize),
}

/// For texts and shapes.
const MOST_BYTES: usize = 64 << 20;

/// Everything that a pickle made.
pub(super) struct Arena {
    pub texts: Vec<Rc<str>>,
    pub sequences: Vec<Vec<Value>>,
    pub dicts: Vec<Vec<(Value, Value)>>,
    pub storages: Vec<Storage>,
    pub tensors: Vec<Tensor>,
    pub budget: Budget,
}

impl Default for Arena {
    fn default() -> Self {
        Self {
            texts: Vec::new(),
            sequences: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            budget: Budget::new(MOST_BYTES),
        }
    }
}

impl Arena {
    pub fn text(&self, value: Value) -> Option<&str> {
        if let Value::Text(at) = value { Some(&self.texts[at]) } else { None }
    }

    /// The same text, shared.
    pub fn shared_text(&self, value: Value) -> Option<Rc<str>> {
        if let Value::Text(at) = value { Some(self.texts[at].clone()) } else { None }
    }

    /// The items of a tuple or list.
    pub fn items(&self, value: Value) -> Option<&[Value]> {
        if let Value::Tuple(at) | Value::List(at) = value { Some(&self.sequences[at]) } else { None }
    }

    pub fn pairs(&self, value: Value) -> Option<&[(Value, Value)]> {
        if let Value::Dict(at) = value { Some(&self.dicts[at]) } else { None }
    }

    pub fn new_text(&mut self, text: &str) -> Result<Value> {
        self.budget.bytes(text.len())?;
        self.texts.push(text.into());
        Ok(Value::Text(self.texts.len() - 1))
    }

    pub fn new_sequence(&mut self, items: Vec<Value>) -> usize {
        self.sequences.push(items);
        self.sequences.len() - 1
    }

    pub fn new_dict(&mut self, pairs: Vec<(Value, Value)>) -> Value {
        self.dicts.push(pairs);
        Value::Dict(self.dicts.len() - 1)
    }
}

/// A function or class that is known; none of them does more than describe data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Function {
    OrderedDict,
    /// `_rebuild_tensor(storage, offset, shape, strides)`, and v2 with more behind.
    Tensor,
    /// v3: the number type stands behind, the storage is counted in bytes.
    TypedTensor,
    /// `_rebuild_parameter(tensor, …)` is the tensor.
    Parameter,
    /// `torch.Size(tuple)` is the tuple.
    Size,
    Storage(Kind),
    UntypedStorage,
    Dtype(Kind),
    /// Sets, and the state that trainers keep beside the weights: read over.
    Inert,
}

/// A block of numbers outside the pickle.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub key: Rc<str>,
    /// None = untyped, counted in bytes.
    pub kind: Option<Kind>,
    /// Elements.
    pub count: usize,
}

/// A view of a storage.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub storage: usize,
    pub kind: Kind,
    /// Elements before the first one.
    pub offset: usize,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}
