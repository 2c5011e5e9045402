//! Pictures of any sizes as squares of one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::images::faces::FaceSearch;
use crate::images::{self, Filter, Fit, is_shape};

/// How pictures of any sizes become squares of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Square {
    pub side: u32,
    pub fit: Fit,
    /// Pictures in which a face was looked for in vain.
    #[serde(skip)]
    without_face: Arc<AtomicUsize>,
}

impl Square {
    pub fn new(side: u32, fit: Fit) -> Self {
        Self { side, fit, without_face: Arc::default() }
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (self.side, self.side)
    }

    /// In how many pictures a face was looked for in vain up to now; their middle is taken.
    pub fn without_face(&self) -> usize {
        self.without_face.load(Ordering::Relaxed)
    }

    /// The same, counted from here on again.
    pub fn take_without_face(&self) -> usize {
        self.without_face.swap(0, Ordering::Relaxed)
    }

    /// Counts pictures of another process.
    pub fn add_without_face(&self, count: usize) {
        self.without_face.fetch_add(count, Ordering::Relaxed);
    }

    /// A picture as such a square; `beside`, of a picture that was made of another one, is that one: where both have one
    /// shape, the same part is seen of both.
    fn of(&self, picture: &RgbImage, beside: Option<&Path>) -> Result<RgbImage> {
        let shape = (1, 1);
        let needs_face = self.fit == Fit::Face && !is_shape(picture.dimensions(), shape);
        let original = beside.filter(|_| needs_face).map(images::load).transpose()?;
        let original = original.filter(|original| is_shape(original.dimensions(), picture.dimensions()));
        let face = match &original {
            Some(original) => {
                let face = self.fit.look_for_face(original, shape).and_then(FaceSearch::face);
                face.map(|face| face.scaled(f64::from(picture.width()) / f64::from(original.width())))
            }
            None => self.fit.look_for_face(picture, shape).and_then(FaceSearch::face),
        };
        if needs_face && face.is_none() {
            self.without_face.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.fit.apply(picture, shape, self.size(), Filter::Bicubic, face.as_ref()))
    }
}

/// As a square, where one is asked for.
pub(super) fn squared(square: Option<&Square>, picture: RgbImage, beside: Option<&Path>) -> Result<RgbImage> {
    match square {
        Some(square) => square.of(&picture, beside),
        None => Ok(picture),
    }
}
