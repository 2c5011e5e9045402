//! Photos of any shape as pictures of one shape.
//!
//! [`Fit::Crop`] is Pillow's `ImageOps.fit`, [`Fit::Pad`] its `ImageOps.pad`, byte for byte; only where `pad` would leave
//! nothing of a very narrow photo, here a line of one pixel stays. [`Fit::Squash`] is a plain `resize`. As everywhere in this
//! folder a camera's orientation (EXIF) is not applied: a fit is of the pixels as they are stored.
//!
//! [`Fit::Face`] moves the window of [`Fit::Crop`] so that the face's middle is its middle, as far as it stays inside the
//! photo. The window is the largest there is and no closer view of the face: whoever describes the photo is asked for hair
//! and clothes as well, and no margin around faces has to be chosen.

use anyhow::Result;
use clap::ValueEnum;
use image::{RgbImage, imageops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::faces::{Face, FaceSearch, find_face};
use super::resize::{Filter, Window, resize, resize_window};
use crate::error::usage;

/// How a photo of another shape becomes a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// All of it, squeezed: the published way
    #[default]
    Squash,
    /// The largest part of the picture's shape, from its middle
    Crop,
    /// All of it, between black borders
    Pad,
    /// As crop, but the part around the largest face; where none is found, the middle
    Face,
}

/// Larger sides are those of a hostile file, or a slip.
const LONGEST_SIDE: usize = 16_384;

/// A side of a picture that is to be made, in pixels.
///
/// # Errors
/// Wrong usage, by `name`: it is 0 or too long.
pub fn checked_side(name: &str, pixels: usize) -> Result<u32> {
    match pixels {
        1..=LONGEST_SIDE => Ok(pixels as u32),
        _ => Err(usage(format!("{name} = {pixels} is not between 1 and {LONGEST_SIDE}"))),
    }
}

/// A view of a photo between borders has at most so many pixels, or twice those of the photo.
const CANVAS: u64 = 1 << 24;

impl Fit {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Squash => "squash",
            Self::Crop => "crop",
            Self::Pad => "pad",
            Self::Face => "face",
        }
    }

    /// Whether photos keep their proportions.
    pub fn keeps_proportions(self) -> bool {
        self != Self::Squash
    }

    /// The face that decides what is seen of a photo in `shape`; None where none has to be known.
    pub fn look_for_face(self, photo: &RgbImage, shape: (u32, u32)) -> Option<FaceSearch> {
        let is_needed = self == Self::Face && !is_shape(photo.dimensions(), shape);
        is_needed.then(|| {
            find_face(photo).unwrap_or_else(|error| {
                tracing::warn!("faces are not looked for: {error:#}");
                FaceSearch::Nothing
            })
        })
    }

    /// The photo at `width`×`height`: what is seen of it in `shape` (any width and height of that proportion, mostly that of
    /// the picture itself), resized. `face` is where [`Self::Face`] looks. No length is 0.
    pub fn apply(
        self,
        photo: &RgbImage,
        shape: (u32, u32),
        (width, height): (u32, u32),
        filter: Filter,
        face: Option<&Face>,
    ) -> RgbImage {
        let shape = if is_shape((width, height), shape) { (width, height) } else { shape };
        match self {
            Self::Squash => resize(photo, width, height, filter),
            Self::Crop | Self::Face => {
                let part = self.part(photo.dimensions(), shape, face);
                resize_window(photo, &part.window(photo.dimensions()), width, height, filter)
            }
            Self::Pad => {
                let (inner_width, inner_height) = between_borders(photo.dimensions(), shape, (width, height));
                let inner = resize(photo, inner_width, inner_height, filter);
                if (inner_width, inner_height) == (width, height) { inner } else { bordered(&inner, width, height) }
            }
        }
    }

    /// A photo as a picture of this size is drawn from it. What is squeezed stays as it is: generators do that by themselves.
    pub fn start(self, photo: RgbImage, size: (u32, u32)) -> RgbImage {
        if !self.keeps_proportions() {
            return photo;
        }
        let face = self.look_for_face(&photo, size).and_then(FaceSearch::face);
        self.apply(&photo, size, size, Filter::Lanczos, face.as_ref())
    }

    /// What is seen of a photo in `shape`, at the photo's own scale in whole pixels: for whoever takes pictures of any size.
    pub fn view(self, photo: RgbImage, shape: (u32, u32), face: Option<&Face>) -> RgbImage {
        let (width, height) = photo.dimensions();
        if self == Self::Squash || is_shape((width, height), shape) {
            return photo;
        }
        let whole = |length: f64, most: u32| (length.round_ties_even() as u32).clamp(1, most);
        if self != Self::Pad {
            let part = self.part((width, height), shape, face);
            let (cut_width, cut_height) = (whole(part.width, width), whole(part.height, height));
            let start = |from: f64, room: u32| (from.round_ties_even() as u32).min(room);
            let (x, y) = (start(part.left, width - cut_width), start(part.top, height - cut_height));
            return imageops::crop_imm(&photo, x, y, cut_width, cut_height).to_image();
        }
        let (w, h) = (f64::from(width), f64::from(height));
        let ratio = f64::from(shape.0) / f64::from(shape.1);
        let (canvas_width, canvas_height) = if w / h > ratio { (w, w / ratio) } else { (h * ratio, h) };
        let most = (2.0 * w * h).max(CANVAS as f64);
        let scale = (most / (canvas_width * canvas_height)).sqrt().min(1.0);
        let canvas = (whole(canvas_width * scale, u32::MAX), whole(canvas_height * scale, u32::MAX));
        if scale < 1.0 {
            return self.apply(&photo, shape, canvas, Filter::Lanczos, None);
        }
        bordered(&photo, canvas.0, canvas.1)
    }

    /// The part of a photo that crop and face show.
    fn part(self, (width, height): (u32, u32), shape: (u32, u32), face: Option<&Face>) -> Part {
        let (whole_width, whole_height) = (f64::from(width), f64::from(height));
        let (own, ratio) = (whole_width / whole_height, f64::from(shape.0) / f64::from(shape.1));
        let (width, height) = if own == ratio {
            (whole_width, whole_height)
        } else if own > ratio {
            (ratio * whole_height, whole_height)
        } else {
            (whole_width, whole_width / ratio)
        };
        let room = (whole_width - width, whole_height - height);
        let (left, top) = match face.filter(|_| self == Self::Face) {
            Some(face) => {
                let (x, y) = face.center();
                ((x - width / 2.0).clamp(0.0, room.0), (y - height / 2.0).clamp(0.0, room.1))
            }
            None => (room.0 * 0.5, room.1 * 0.5),
        };
        Part { left, top, width, height }
    }
}

/// In pixels of the photo.
struct Part {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Part {
    fn window(&self, (width, height): (u32, u32)) -> Window {
        Window {
            left: self.left as f32,
            top: self.top as f32,
            right: ((self.left + self.width) as f32).min(width as f32),
            bottom: ((self.top + self.height) as f32).min(height as f32),
        }
    }
}

/// Whether a size has this shape.
pub fn is_shape((width, height): (u32, u32), shape: (u32, u32)) -> bool {
    u64::from(width) * u64::from(shape.1) == u64::from(height) * u64::from(shape.0)
}

/// The size of a photo inside a picture of `to` that shows it between borders, in `shape`.
fn between_borders(photo: (u32, u32), shape: (u32, u32), to: (u32, u32)) -> (u32, u32) {
    let [(w, h), (shape_width, shape_height), (width, height)] =
        [photo, shape, to].map(|(width, height)| (f64::from(width), f64::from(height)));
    let whole = |length: f64, most: u32| (length.round_ties_even() as u32).clamp(1, most);
    let (own, ratio) = (w / h, shape_width / shape_height);
    if own == ratio {
        to
    } else if own > ratio {
        (to.0, whole(h / w * shape_width * (height / shape_height), to.1))
    } else {
        (whole(w / h * shape_height * (width / shape_width), to.0), to.1)
    }
}

/// In the middle of a black canvas that is at least as large.
fn bordered(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    let mut canvas = RgbImage::new(width, height);
    let place = |room: u32| (f64::from(room) * 0.5).round_ties_even() as i64;
    let (x, y) = (place(width.saturating_sub(picture.width())), place(height.saturating_sub(picture.height())));
    imageops::replace(&mut canvas, picture, x, y);
    canvas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 3) as u8, (y * 5) as u8, 200]))
    }

    const ALL: [Fit; 4] = [Fit::Squash, Fit::Crop, Fit::Pad, Fit::Face];

    #[test]
    fn what_has_the_shape_is_the_same_in_every_fit() {
        let photo = ramp(60, 40);
        for fit in ALL {
            assert_eq!(fit.view(photo.clone(), (3, 2), None), photo, "{fit:?}");
            let at = fit.apply(&photo, (3, 2), (33, 22), Filter::Lanczos, None);
            assert_eq!(at, resize(&photo, 33, 22, Filter::Lanczos), "{fit:?}");
            assert_eq!(fit.look_for_face(&photo, (3, 2)), None);
        }
    }

    #[test]
    fn a_view_keeps_the_pixels() {
        let photo = ramp(70, 40);
        let view = |fit: Fit, face: Option<&Face>| fit.view(photo.clone(), (1, 1), face);
        assert_eq!(view(Fit::Squash, None), photo);
        assert_eq!(view(Fit::Crop, None), imageops::crop_imm(&photo, 15, 0, 40, 40).to_image());
        let pad = view(Fit::Pad, None);
        assert_eq!(pad.dimensions(), (70, 70));
        assert_eq!(imageops::crop_imm(&pad, 0, 15, 70, 40).to_image(), photo);
        assert!(pad.enumerate_pixels().all(|(_, y, pixel)| (15..55).contains(&y) || pixel.0 == [0; 3]));
        let face = |left: f64| Face { left, top: 0.0, width: 10.0, height: 10.0, share: 0.1 };
        for (left, start) in [(0.0, 0), (27.0, 12), (60.0, 30)] {
            let cut = imageops::crop_imm(&photo, start, 0, 40, 40).to_image();
            assert_eq!(view(Fit::Face, Some(&face(left))), cut, "{left}");
        }
    }

    #[test]
    fn views_of_extreme_photos_are_bounded() {
        let narrow = RgbImage::from_pixel(1, 60_000, image::Rgb([9, 8, 7]));
        let view = Fit::Pad.view(narrow.clone(), (1, 1), None);
        assert_eq!(view.dimensions(), (4096, 4096));
        assert!(view.pixels().any(|pixel| pixel.0 == [9, 8, 7]), "a line stays");
        assert_eq!(Fit::Crop.view(narrow.clone(), (2, 1), None).dimensions(), (1, 1));
        for fit in ALL {
            assert_eq!(fit.apply(&narrow, (1, 1), (224, 224), Filter::Bicubic, None).dimensions(), (224, 224));
        }
    }

    /// Where pictures are drawn in another shape than they are compared in, photos are compared as they are drawn from.
    #[test]
    fn another_shape_than_that_of_the_picture_is_squeezed_into_it() {
        let photo = RgbImage::from_fn(100, 100, |x, _| image::Rgb([if (25..75).contains(&x) { 250 } else { 9 }; 3]));
        let crop = Fit::Crop.apply(&photo, (1, 2), (40, 40), Filter::Bicubic, None);
        assert!(crop.pixels().filter(|pixel| pixel.0[0] > 240).count() >= 38 * 40);
        let pad = Fit::Pad.apply(&photo, (1, 2), (40, 40), Filter::Bicubic, None);
        let is_border = |y: u32| (0..40).all(|x| pad.get_pixel(x, y).0 == [0; 3]);
        assert!((0..40).all(|y| is_border(y) != (10..30).contains(&y)));
    }
}
