//! What a caption run needs of models, as a trait: the runner can be tested without any.

use std::path::PathBuf;

use anyhow::Result;

use crate::experiment::style::models::{Models, OnThisMachine};
use crate::models::{self, CaptionOptions, Captioner};

/// Where a caption run gets its models.
pub trait Captioners {
    /// The files of a model; one that is not to be found, or does not describe pictures, is an error. Loads nothing.
    fn find(&self, name: &str) -> Result<PathBuf>;

    /// Refuses captions that this captioner could make of no picture. Loads no weights.
    fn check_captions(&self, name: &str, options: &CaptionOptions) -> Result<()>;

    fn captioner(&self, name: &str) -> Result<Box<dyn Captioner>>;

    /// Pictures at a time where the configuration does not say.
    fn batch_size(&self) -> usize;

    /// Device and number type, for the manifest.
    fn place(&self) -> (String, String);
}

impl Captioners for OnThisMachine {
    fn find(&self, name: &str) -> Result<PathBuf> {
        let located = models::locate(name, self.runtime())?;
        if !located.family.is_captioner() {
            let title = located.family.title();
            return Err(crate::error::usage(format!("{name} is a {title}, it does not describe pictures")));
        }
        Ok(located.path)
    }

    fn check_captions(&self, name: &str, options: &CaptionOptions) -> Result<()> {
        models::check_captions(name, options, self.runtime())
    }

    fn captioner(&self, name: &str) -> Result<Box<dyn Captioner>> {
        models::load_captioner(name, self.runtime())
    }

    fn batch_size(&self) -> usize {
        Models::batch_size(self)
    }

    fn place(&self) -> (String, String) {
        Models::place(self)
    }
}
