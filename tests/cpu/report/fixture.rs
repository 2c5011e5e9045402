//! A made-up but complete run folder: rows with plausible values, pictures drawn by formula.

use std::path::Path;

use anyhow::Result;
use image::{Rgb, RgbImage};
use toolkit::axes::{AxisValues, captioner, generator, guidance_scale, instruction, seed, steps, style_text};
use toolkit::metrics::{Value, Values};
use toolkit::run::csv;
use toolkit::run::style::{ItemRow, ResultRow};

pub const STYLES: [(&str, &str); 12] = [
    ("watercolour", "a watercolour painting with soft edges, wet paper and a great deal of light"),
    ("pixel-art", "pixel art"),
    ("line-drawing", "a minimalist black and white line drawing of a head, in the style of an open sketchbook"),
    (
        "oil-portrait",
        "an oil portrait in the manner of the old Dutch masters, chiaroscuro, dark background, visible brush strokes",
    ),
    ("comic", "a comic book panel with halftone dots and thick outlines"),
    ("no-style-text", ""),
    ("claymation-figure-with-a-long-name", "a claymation figure"),
    ("stained-glass", "a stained glass window"),
    ("charcoal", "a charcoal sketch on grey paper"),
    ("ukiyo-e", "a ukiyo-e woodblock print"),
    ("low-poly", "low poly 3D render"),
    ("mosaic", "a Byzantine mosaic of gold and blue tesserae"),
];

/// How many strategies and photos, and how large the pictures are.
pub struct Fixture {
    pub strategies: usize,
    pub photos: usize,
    pub side: u32,
}

impl Fixture {
    /// The rows of `items.csv`: strategy by strategy, every ninth picture failed or with a remark.
    pub fn items(&self) -> Vec<ItemRow> {
        let mut rows = Vec::new();
        for (s, (strategy, style)) in STYLES.iter().enumerate().take(self.strategies) {
            for p in 0..self.photos {
                let id = format!("face-{p:03}");
                let caption = format!(
                    "a person number {p} with round glasses, a short beard & a \"blue\" hat, smiling at the camera"
                );
                let noise = noise(s * 1000 + p);
                let mut row = ItemRow {
                    prompt: format!("{caption}, {style}"),
                    image: format!("images/{strategy}/{id}.png"),
                    photo: format!("photos/{id}.png"),
                    strategy: strategy.to_string(),
                    seed: p as u64,
                    dropped: if p % 4 == 0 { "looking slightly to the left".into() } else { String::new() },
                    seconds: Some(0.8 + 0.2 * noise),
                    values: of_metrics(&[(
                        "lpips",
                        Some(0.42 + 0.025 * s as f64 + 0.18 * (noise - 0.5) + 0.1 * (noise - 0.5).powi(3)),
                        None,
                    )]),
                    style_distance: Some(11.0 + 1.5 * ((s * 5) % 7) as f64 + 3.0 * noise),
                    status: "done".into(),
                    photo_luma: Some(if p % 8 == 3 { 41.5 } else { 128.0 }),
                    photo_sharpness: Some(if p % 8 == 5 { 0.0012 } else { 0.15 }),
                    face_share: Some(if p % 8 == 6 { 0.0 } else { 0.18 }),
                    caption,
                    id,
                    ..Default::default()
                };
                match (s * 5 + p) % 19 {
                    7 => {
                        row.status = "failed".into();
                        row.error = format!("photos/{}.png: the picture is cut off after 1234 bytes", row.id);
                        (row.values, row.style_distance, row.seconds) = (Values::default(), None, None);
                        row.image = String::new();
                    }
                    11 => row.remark = "drawn again in float32: the first picture was all black".into(),
                    _ => {}
                }
                rows.push(row);
            }
        }
        rows
    }

    /// The rows of `results.csv` that go with [`Self::items`].
    pub fn results(&self) -> Vec<ResultRow> {
        let items = self.items();
        let row = |(s, (strategy, style)): (usize, &(&str, &str))| {
            let of = |f: fn(&ItemRow) -> Option<f64>| {
                let values: Vec<f64> = items.iter().filter(|i| i.strategy == *strategy).filter_map(f).collect();
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            let n = items.iter().filter(|i| i.strategy == *strategy && i.status == "done").count();
            let (lpips, fid) = (of(|i| i.values.value("lpips")), 180.0 + 37.0 * ((s * 5) % 7) as f64 + 3.0 * s as f64);
            let artfid = lpips.map(|lpips| (1.0 + lpips) * (1.0 + fid));
            let mut axes = AxisValues::default();
            axes.set(&style_text::AXIS, *style);
            axes.set(&captioner::AXIS, "mini-phi-4-multimodal");
            axes.set(&generator::AXIS, "mini-sd3");
            axes.set(&instruction::AXIS, "Describe the person in this photo.");
            axes.set(&steps::AXIS, 28u64);
            axes.set(&guidance_scale::AXIS, 7.0);
            axes.set(&seed::AXIS, 0u64);
            ResultRow {
                strategy: strategy.to_string(),
                axes,
                n,
                values: of_metrics(&[
                    ("artfid", artfid, artfid.map(|v| (v * 0.93 - 4.0, v * 1.06 + 6.0))),
                    ("fid", Some(fid), None),
                    ("lpips", lpips, None),
                ]),
                seconds_per_image: of(|i| i.seconds),
                failed: self.photos - n,
            }
        };
        STYLES.iter().enumerate().take(self.strategies).map(row).collect()
    }

    /// Writes the whole folder: CSV files, pictures, config.toml and manifest.json.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        csv::write(&dir.join("items.csv"), &self.items(), &[])?;
        csv::write(&dir.join("results.csv"), &self.results(), &[])?;
        for p in 0..self.photos {
            save(&dir.join(format!("photos/face-{p:03}.png")), &self.picture(p, None))?;
        }
        for item in self.items().iter().filter(|item| !item.image.is_empty()) {
            let style = STYLES.iter().position(|(name, _)| *name == item.strategy);
            save(&dir.join(&item.image), &self.picture(item.seed as usize, style))?;
        }
        std::fs::write(dir.join("config.toml"), CONFIG)?;
        std::fs::write(dir.join("manifest.json"), MANIFEST)?;
        Ok(())
    }

    /// A face of sorts: a disc on a ground, its colours from the photo's number and the style's.
    fn picture(&self, photo: usize, style: Option<usize>) -> RgbImage {
        let hue = |k: usize| [90 + (k * 67 % 150) as u8, 90 + (k * 101 % 150) as u8, 90 + (k * 41 % 150) as u8];
        let (ground, face) = (hue(photo * 3 + style.unwrap_or(50)), hue(photo + 7 + style.unwrap_or(0) * 5));
        let half = self.side as f64 / 2.0;
        RgbImage::from_fn(self.side, self.side, |x, y| {
            let (dx, dy) = ((x as f64 - half) / half, (y as f64 - half) / half);
            let eye = |ex: f64| (dx - ex).hypot(dy + 0.15) < 0.08;
            let mouth = dx.abs() < 0.3 && (dy - 0.3 - 0.1 * dx.abs()).abs() < 0.04;
            Rgb(match style {
                _ if eye(0.25) || eye(-0.25) || mouth => [40, 30, 30],
                Some(s) if s % 3 == 1 && (x / 6 + y / 6) % 2 == 0 => ground,
                _ if dx.hypot(dy) < 0.7 => face,
                _ => ground,
            })
        })
    }
}

/// A metric's name, value and interval.
type Measured<'a> = (&'a str, Option<f64>, Option<(f64, f64)>);

pub fn of_metrics(values: &[Measured]) -> Values {
    let mut all = Values::default();
    for (name, value, interval) in values {
        all.set(name, Value { value: *value, low: interval.map(|(low, _)| low), high: interval.map(|(_, high)| high) });
    }
    all
}

/// A number in 0..1 that depends on `k` alone.
fn noise(k: usize) -> f64 {
    let mut x = (k as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 31;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 29;
    (x >> 11) as f64 / (1u64 << 53) as f64
}

fn save(path: &Path, picture: &RgbImage) -> Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(path))?;
    Ok(picture.save(path)?)
}

pub const CONFIG: &str = r#"name = "style_ablation"
kind = "style_transfer"
question = "Which style text brings pictures nearest to the style and keeps the person?"
profile = "mini"
photos = "experiments/mini/photos"
style_pictures = "experiments/mini/styles/open-peeps"
comparison_size = 224

[axes]
captioner = "mini-phi-4-multimodal"
generator = "mini-sd3"
seed = 0
"#;

pub const MANIFEST: &str = r#"{
  "toolkit": "0.1.0",
  "libtorch": "2.11.0",
  "device": "cpu",
  "dtype": "float32",
  "started": 1780000000,
  "finished": true,
  "seeds": [0],
  "model_files": [
    {"model": "mini-sd3", "file": "transformer/diffusion_pytorch_model.safetensors", "bytes": 1234, "sha256": "0123abcd"}
  ]
}
"#;
