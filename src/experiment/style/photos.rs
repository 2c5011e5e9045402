//! The photos of a run as all of it sees them. What a captioner is shown, what a picture is drawn from, and what it is
//! compared with are one view of the photo, that of the key `fit`: a part, all of it between borders, or all of it squeezed.
//!
//! The view has the shape of the pictures that are drawn. Style pictures are squeezed whatever `fit` is: they are the one
//! reference of all runs that share them, and a border, or what a cut leaves out, would become a part of the style.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use image::RgbImage;

use super::config::Config;
use super::models::Models;
use super::plan::Plan;
use crate::axes::generator;
use crate::datasets::Photo;
use crate::error::usage;
use crate::experiment::stage::{Decoded, decode};
use crate::images::{self, Filter, Fit, is_shape};
use crate::metrics::image::photo::{PhotoMeasures, measure};
use crate::run::style::ItemRow;

/// So many are named in a message.
const MOST_NAMES: usize = 5;

/// How the photos of a run are seen, and what was measured of them.
#[derive(Debug)]
pub struct Photos {
    pub fit: Fit,
    /// Width and height, or others of that proportion.
    shape: (u32, u32),
    /// By id: each photo is measured once, and its face found once.
    measured: Mutex<BTreeMap<String, PhotoMeasures>>,
}

impl Photos {
    /// # Errors
    /// Wrong usage: the generators draw pictures of several shapes, and a photo is to have one.
    pub fn new(plan: &Plan, config: &Config, models: &dyn Models) -> Result<Self> {
        let fit = config.fit();
        let shape = if fit.keeps_proportions() { shape(plan, config, models)? } else { (1, 1) };
        Ok(Self { fit, shape, measured: Mutex::default() })
    }

    pub fn measures(&self, id: &str, whole: &RgbImage) -> PhotoMeasures {
        let known = self.measured.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied();
        known.unwrap_or_else(|| {
            let measures = measure(whole);
            self.measured.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_string(), measures);
            measures
        })
    }

    /// At its own scale, for captioners.
    pub fn view(&self, id: &str, whole: RgbImage) -> RgbImage {
        let face = if self.fit == Fit::Face { self.measures(id, &whole).face } else { None };
        self.fit.view(whole, self.shape, face.as_ref())
    }

    /// As a picture of this size.
    pub fn at(&self, whole: &RgbImage, measures: &PhotoMeasures, size: (u32, u32), filter: Filter) -> RgbImage {
        self.fit.apply(whole, self.shape, size, filter, measures.face.as_ref())
    }

    /// What image-to-image starts from, for pictures of this size; generators themselves squeeze what has another.
    pub fn start(&self, whole: RgbImage, measures: &PhotoMeasures, (width, height): (usize, usize)) -> RgbImage {
        if self.fit.keeps_proportions() {
            self.at(&whole, measures, (width as u32, height as u32), Filter::Lanczos)
        } else {
            whole
        }
    }

    /// Says in how many of the photos that were drawn a face was looked for in vain.
    pub fn say_without_face(&self, plan: &Plan, rows: &[ItemRow]) {
        if self.fit != Fit::Face {
            return;
        }
        let drawn = rows.iter().filter(|row| row.status == "done");
        let all: BTreeSet<&str> = drawn.clone().map(|row| row.id.as_str()).collect();
        let without: BTreeSet<&str> =
            drawn.filter(|row| row.face_share.is_none_or(|share| share == 0.0)).map(|row| row.id.as_str()).collect();
        let is_cut = |photo: &&Photo| {
            without.contains(photo.id.as_str())
                && images::size(&photo.path).is_ok_and(|size| !is_shape(size, self.shape))
        };
        let cut: Vec<&str> = plan.photos.iter().filter(is_cut).map(|photo| photo.id.as_str()).collect();
        if cut.is_empty() {
            return;
        }
        let names = cut.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(", ");
        let more = if cut.len() > MOST_NAMES { ", …" } else { "" };
        tracing::warn!(
            "fit = \"face\": no face was found in {} of {} photos, which show their middle: {names}{more}",
            cut.len(),
            all.len()
        );
    }
}

/// The size of the pictures that a generator of this own size draws.
pub fn drawn_size(config: &Config, (width, height): (usize, usize)) -> (usize, usize) {
    (config.width.unwrap_or(width), config.height.unwrap_or(height))
}

/// The one shape of all pictures that are drawn.
fn shape(plan: &Plan, config: &Config, models: &dyn Models) -> Result<(u32, u32)> {
    let mut sizes: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for cell in &plan.cells {
        let name = cell.text(&generator::AXIS);
        if sizes.contains_key(name) {
            continue;
        }
        let (width, height) = drawn_size(config, models.outline(name)?.own_size());
        sizes.insert(name, (images::checked_side("width", width)?, images::checked_side("height", height)?));
    }
    let mut sizes = sizes.into_iter();
    let Some((first, shape)) = sizes.next() else { return Ok((1, 1)) };
    match sizes.find(|(_, size)| !is_shape(*size, shape)) {
        Some((other, (width, height))) => Err(usage(format!(
            "fit = {:?} needs pictures of one shape, but {first} draws {}×{} and {other} {width}×{height}: set width and \
             height",
            config.fit().name(),
            shape.0,
            shape.1
        ))),
        None => Ok(shape),
    }
}

/// Starts to decode photos as captioners see them.
pub fn views(photos: &Arc<Photos>, of: &[Photo]) -> Decoded {
    if !photos.fit.keeps_proportions() {
        return decode(of.iter().map(|photo| photo.path.clone()).collect());
    }
    let photos = photos.clone();
    let view = move |photo: &Photo| Ok(photos.view(&photo.id, images::load(&photo.path)?));
    Box::new(images::stream_with(of.to_vec(), of.len(), view).map(|(_, picture)| picture))
}
