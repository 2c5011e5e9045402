//! Metrics of pictures and captions.

pub mod artfid;
pub mod bleu;
pub mod captions;
pub mod cider;
pub mod confidence;
pub mod corpus;
pub mod features;
pub mod frechet;
pub mod lpips;
pub mod meteor;
pub mod numpy_random;
pub mod photo;
pub mod pictures;
pub mod ptb;
pub mod rouge;
