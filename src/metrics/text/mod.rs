//! Metrics of captions: a file a family, over texts that are tokenized once.

pub mod bleu;
pub mod captions;
pub mod cider;
pub mod corpus;
pub mod meteor;
pub mod numpy_random;
pub mod ptb;
pub mod rouge;
