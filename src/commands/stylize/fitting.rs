//! How a photo comes to the shape of the picture: `--fit`.

use std::path::Path;

use anyhow::Result;
use image::RgbImage;

use crate::cli::StylizeArgs;
use crate::images::faces::FaceSearch;
use crate::images::{Filter, checked_side};
use crate::models::{Outline, Settled};

/// A photo as it is used.
#[derive(Debug, Default)]
pub struct Fitted {
    /// What is started from.
    pub photo: Option<RgbImage>,
    /// What the captioner sees, where it is not the same.
    pub view: Option<RgbImage>,
    /// Width and height of the picture, where the photo was fitted to them.
    pub size: Option<(usize, usize)>,
}

impl Fitted {
    /// As it is, or as `--fit` asks for: then the picture has the model's own size where no other is asked for.
    pub fn new(
        args: &StylizeArgs,
        photo: Option<RgbImage>,
        outline: impl FnOnce() -> Result<Box<dyn Outline>>,
    ) -> Result<Self> {
        let (Some(fit), Some(whole)) = (args.fit.filter(|fit| fit.keeps_proportions()), &photo) else {
            return Ok(Self { photo, ..Self::default() });
        };
        let own = outline()?.own_size();
        let (width, height) = (args.width.unwrap_or(own.0), args.height.unwrap_or(own.1));
        let size = (checked_side("--width", width)?, checked_side("--height", height)?);
        let search = fit.look_for_face(whole, size);
        let face = search.and_then(FaceSearch::face);
        if search.is_some() && face.is_none() {
            tracing::warn!("{}: no face was found: its middle is taken", path_of(args).display());
        }
        let start = fit.apply(whole, size, size, Filter::Lanczos, face.as_ref());
        let view = photo.map(|whole| fit.view(whole, size, face.as_ref()));
        Ok(Self { photo: Some(start), view, size: Some((width, height)) })
    }
}

/// That of the photo.
pub fn path_of(args: &StylizeArgs) -> &Path {
    args.image.as_deref().or(args.photo.as_deref()).unwrap_or(Path::new(""))
}

/// Sides that a generator rounds down are no other shape.
const ROUNDED: f64 = 0.03;

/// Says of a photo of another shape than the picture, where nothing is said of it, that it is squeezed.
pub fn say_if_squeezed(args: &StylizeArgs, photo: Option<&RgbImage>, settled: &Settled) {
    let Some((w, h)) = photo.map(RgbImage::dimensions).filter(|_| args.fit.is_none() && settled.strength.is_some())
    else {
        return;
    };
    let Settled { width, height, .. } = settled;
    let squeezed = f64::from(w) / f64::from(h) / (*width as f64 / *height as f64);
    if (squeezed - 1.0).abs() > ROUNDED {
        tracing::warn!(
            "{} of {w}×{h} is squashed to {width}×{height}, as is usual: --fit crop, pad or face keeps its proportions",
            path_of(args).display()
        );
    }
}
