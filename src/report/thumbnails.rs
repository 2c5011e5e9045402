//! Pictures small enough to be carried inside a page, as data URIs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use rayon::prelude::*;

use crate::images;
use crate::run::guard;

/// How large the pictures of a part of a page may be.
#[derive(Debug)]
pub struct Room {
    /// All of them together stay below this many bytes of text.
    pub budget: usize,
    /// Longest side in pixels and JPEG quality: the first at which they fit the budget.
    pub levels: &'static [(u32, u8)],
    /// Whether a picture that cannot be read is spoken of; chosen ones are among all.
    warns: bool,
}

impl Room {
    fn speak_of(&self, error: &anyhow::Error) {
        if self.warns {
            tracing::warn!("{error:#}: the page goes without it");
        }
    }
}

/// Of chosen pictures.
pub const GALLERY: Room =
    Room { budget: 5 << 20, levels: &[(224, 85), (160, 82), (112, 78), (80, 72), (56, 65)], warns: true };
/// Of all pictures.
pub const ALL: Room = Room {
    budget: 8 << 20,
    levels: &[(176, 80), (132, 78), (112, 76), (96, 74), (80, 70), (64, 66), (48, 60)],
    warns: false,
};

/// A picture inside a page.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Thumbnail {
    pub uri: String,
    pub width: u32,
    pub height: u32,
}

/// Thumbnails of these files (relative to `dir`, as often as the page uses them). What cannot be
/// read is left out: the page says so in its place.
pub fn thumbnails(dir: &Path, files: &[String], room: &Room) -> BTreeMap<String, Thumbnail> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files {
        *uses.entry(file).or_default() += 1;
    }
    let load = |(file, uses): (&&str, &usize)| {
        let picture = open(dir, file).inspect_err(|error| room.speak_of(error)).ok()?;
        Some((file.to_string(), *uses, images::thumbnail(&picture, room.levels[0].0)))
    };
    let mut pictures: Vec<(String, usize, RgbImage)> = uses.par_iter().filter_map(load).collect();
    let mut encoded = Vec::new();
    for (side, quality) in room.levels.iter().copied() {
        pictures.par_iter_mut().for_each(|(.., picture)| *picture = images::thumbnail(picture, side));
        encoded = pictures.par_iter().map(|(.., picture)| data_uri(picture, quality)).collect();
        let total: usize = pictures.iter().zip(&encoded).map(|((_, uses, _), uri)| uses * uri.len()).sum();
        if total <= room.budget {
            break;
        }
    }
    let thumbnail = |((file, _, picture), uri): ((String, usize, RgbImage), String)| {
        (file, Thumbnail { uri, width: picture.width(), height: picture.height() })
    };
    pictures.into_iter().zip(encoded).map(thumbnail).collect()
}

/// Opens a picture of the run folder; names that lead out of it are refused.
pub fn open(dir: &Path, file: &str) -> Result<RgbImage> {
    images::load(guard::inside(dir, file)?)
}

/// The shorter of lossless WebP (drawings) and JPEG (photos); empty only if neither can be written.
fn data_uri(picture: &RgbImage, quality: u8) -> String {
    let (mut webp, mut jpeg) = (Vec::new(), Vec::new());
    let webp_done = picture.write_with_encoder(WebPEncoder::new_lossless(&mut webp)).is_ok();
    let jpeg_done = picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, quality)).is_ok();
    let shorter = [("webp", webp, webp_done), ("jpeg", jpeg, jpeg_done)].into_iter().filter(|(.., done)| *done);
    let Some((kind, bytes, _)) = shorter.min_by_key(|(_, bytes, _)| bytes.len()) else { return String::new() };
    format!("data:image/{kind};base64,{}", BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_large_pictures_shrink_until_they_fit() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let mut state = 1u32;
        let noise = RgbImage::from_fn(300, 200, |_, _| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
        });
        noise.save(dir.path().join("noise.png"))?;
        let one = thumbnails(dir.path(), &["noise.png".into()], &GALLERY);
        assert_eq!((one["noise.png"].width, one["noise.png"].height), (224, 149));
        let many = thumbnails(dir.path(), &vec!["noise.png".to_string(); 400], &GALLERY);
        assert!(many["noise.png"].uri.len() * 400 <= GALLERY.budget && many["noise.png"].width < 224);
        Ok(())
    }

    #[test]
    fn what_cannot_be_read_is_left_out() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let run = dir.path().join("run");
        std::fs::create_dir(&run)?;
        RgbImage::new(4, 4).save(dir.path().join("secret.png"))?;
        std::fs::write(run.join("text.png"), "no picture")?;
        let absolute = dir.path().join("secret.png").display().to_string();
        let files = ["missing.png", "text.png", "../secret.png", &absolute].map(String::from);
        assert!(thumbnails(&run, &files, &GALLERY).is_empty());
        Ok(())
    }
}
