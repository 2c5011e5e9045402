//! The pass over the style pictures.

use std::ops::Range;

use anyhow::{Context, Result};
use image::RgbImage;

use super::StyleTransfer;
use super::describe::ahead;
use super::features::FeatureStore;
use super::models::Judge;
use crate::experiment::kind::Work;
use crate::experiment::stage::{Decoded, Stage, pass};
use crate::images::{self, Filter, resize};

/// Of its bar.
pub const LABEL: &str = "style pictures";

/// The features of the style pictures, at the size of the comparison; computed once a run. A style
/// picture that cannot be read is an error: every strategy is measured against all of them.
pub fn style_features(work: &Work<StyleTransfer>, store: &FeatureStore, judge: &dyn Judge) -> Result<Vec<Vec<f32>>> {
    if let Some(style) = store.style()?
        && style.len() == work.plan.style_pictures.len()
    {
        return Ok(style);
    }
    let mut measuring = Measuring { work, judge, features: Vec::new() };
    pass(&mut measuring, work.progress)?;
    store.write_style(&measuring.features)?;
    Ok(measuring.features)
}

struct Measuring<'a> {
    work: &'a Work<'a, StyleTransfer>,
    judge: &'a dyn Judge,
    features: Vec<Vec<f32>>,
}

impl<'a> Stage for Measuring<'a> {
    const LABEL: &'static str = LABEL;
    /// Places in the list of style pictures.
    type Batch = Range<usize>;
    type Model = &'a dyn Judge;
    type Made = Vec<Vec<f32>>;

    fn batches(&self) -> Vec<Range<usize>> {
        let (count, size) = (self.work.plan.style_pictures.len(), self.work.batch_size());
        (0..count).step_by(size).map(|start| start..count.min(start + size)).collect()
    }

    fn is_pending(&self, _batch: &Range<usize>) -> bool {
        true
    }

    /// The one that was loaded before.
    fn model<'b>(&self, _batch: &'b Range<usize>) -> &'b str {
        ""
    }

    fn load(&self, _name: &str) -> Result<&'a dyn Judge> {
        Ok(self.judge)
    }

    fn decode(&self, _batches: &[Range<usize>]) -> Decoded {
        let paths = self.work.plan.style_pictures.clone();
        Box::new(images::stream(paths, ahead(self.work.batch_size())).map(|(_, picture)| picture))
    }

    fn pictures(&self, batch: &Range<usize>) -> usize {
        batch.len()
    }

    fn extent(&self, _pending: &[Range<usize>]) -> (usize, usize) {
        (self.work.plan.style_pictures.len(), 0)
    }

    fn work(
        &self,
        _batch: &Range<usize>,
        pictures: Vec<Result<RgbImage>>,
        judge: &&'a dyn Judge,
    ) -> Result<Self::Made> {
        let side = self.work.config.comparison_size;
        let square =
            |picture: Result<RgbImage>| Ok(resize(&picture.context("style_pictures")?, side, side, Filter::Bicubic));
        judge.features(&pictures.into_iter().map(square).collect::<Result<Vec<RgbImage>>>()?)
    }

    fn record(&mut self, batch: &Range<usize>, made: Self::Made) -> Result<usize> {
        self.features.extend(made);
        Ok(batch.len())
    }
}
