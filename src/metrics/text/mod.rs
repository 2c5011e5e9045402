//! Metrics of captions: a file a family, over texts that are tokenized once.

pub mod bleu;
pub mod captions;
pub mod cider;
pub mod clip_score;
pub mod corpus;
pub mod meteor;
pub mod numpy_random;
mod prepared;
pub mod ptb;
pub mod rouge;

pub use captions::{Measured, Profile, Total};
pub use prepared::Prepared;

use super::{About, Metric, Show};

/// A metric of captions.
pub trait CaptionMetric: Metric {
    /// In which profile it comes first.
    fn profile(&self) -> Profile;

    /// Whether it says nothing of a caption without references.
    fn needs_references(&self) -> bool {
        true
    }

    /// Its value of each caption, and how that of a set comes from them.
    fn measure(&self, texts: &Prepared) -> Measured;
}

/// What most metrics of captions have in common.
const CAPTIONS: About = About {
    name: "",
    label: "",
    axis: "",
    help: "",
    compares: "captions with references",
    higher_is_better: true,
    needs: &[],
    item: None,
    interval: false,
    show: Show::File,
    by_default: true,
    width: 7,
};
