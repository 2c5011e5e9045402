//! Metrics of pictures and captions.

pub mod bleu;
pub mod captions;
pub mod cider;
pub mod corpus;
pub mod meteor;
pub mod numpy_random;
pub mod ptb;
pub mod rouge;
