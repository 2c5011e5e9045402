//! The pass over the style pictures.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use image::RgbImage;
use rayon::prelude::*;

use super::StyleTransfer;
use super::models::ImageScorer;
use crate::experiment::embed::Rows;
use crate::experiment::kind::Inputs;
use crate::experiment::stage::{Decoded, Pass, decode};
use crate::images::{Filter, resize};
use crate::runtime::during;
use crate::workers::{Ledger, Stage};

/// Of its bar.
pub const LABEL: &str = "style pictures";

/// The work of the scorer on style pictures.
pub struct Measure<'a> {
    pub inputs: Inputs<'a, StyleTransfer>,
    pub scorer: &'a dyn ImageScorer,
}

impl<'a> Stage for Measure<'a> {
    const LABEL: &'static str = LABEL;
    /// Places in the list of style pictures.
    type Batch = Range<usize>;
    type Ready = Decoded;
    type Model = &'a dyn ImageScorer;
    type Made = Rows;

    /// The one that was loaded before.
    fn model(&self, _batch: &Range<usize>) -> String {
        String::new()
    }

    fn load(&self, _name: &str) -> Result<&'a dyn ImageScorer> {
        Ok(self.scorer)
    }

    fn prepare(&self, batch: &Range<usize>) -> Decoded {
        decode(self.inputs.plan.style_pictures[batch.clone()].to_vec())
    }

    fn work(&self, _batch: &Range<usize>, pictures: Decoded, scorer: &&'a dyn ImageScorer) -> Result<Rows> {
        let side = self.inputs.config.comparison_size;
        let square = |picture: Result<RgbImage>| -> Result<RgbImage> {
            Ok(resize(&picture.context("style_pictures")?, side, side, Filter::Bicubic))
        };
        let pictures: Vec<Result<RgbImage>> = during("decoding", || pictures.collect());
        let squares: Vec<Result<RgbImage>> = during("resizing", || pictures.into_par_iter().map(square).collect());
        // The first that fails is told, whichever core came first.
        scorer.features(&squares.into_iter().collect::<Result<Vec<_>>>()?).map(Rows)
    }

    fn lost(&self, batch: &Range<usize>, reason: &str) -> Result<Rows> {
        let files = &self.inputs.plan.style_pictures[batch.clone()];
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        bail!("style_pictures: {} cannot be measured: {reason}", names.join(", "))
    }
}

/// The features of the style pictures, at the size of the comparison; computed once a run. A style
/// picture that cannot be read is an error: every strategy is measured against all of them.
pub struct Measuring<'a> {
    pub stage: Measure<'a>,
    /// In the order of the plan, once all are there.
    pub features: Vec<Vec<f32>>,
}

impl<'a> Measuring<'a> {
    pub fn new(stage: Measure<'a>) -> Self {
        let features = vec![Vec::new(); stage.inputs.plan.style_pictures.len()];
        Self { stage, features }
    }
}

impl<'a> Ledger for Measuring<'a> {
    type Stage = Measure<'a>;

    fn stage(&self) -> &Measure<'a> {
        &self.stage
    }

    fn record(&mut self, batch: &Range<usize>, Rows(made): Rows) -> Result<usize> {
        self.features.splice(batch.clone(), made);
        Ok(batch.len())
    }
}

impl Pass for Measuring<'_> {
    fn batches(&self) -> Vec<Range<usize>> {
        let (count, size) = (self.features.len(), self.stage.inputs.batch_size);
        (0..count).step_by(size).map(|start| start..count.min(start + size)).collect()
    }

    fn is_pending(&self, _batch: &Range<usize>) -> bool {
        true
    }

    fn extent(&self, _pending: &[Range<usize>]) -> (usize, usize) {
        (self.features.len(), 0)
    }
}
