//! Models that are plain functions of their input, so that runs can be tested without checkpoints.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use image::{Rgb, RgbImage};
use tokenizers::Tokenizer;
use toolkit::error::usage;
use toolkit::experiment::models::{Captioners, Needed, Role};
use toolkit::experiment::settings::Settings;
use toolkit::experiment::style::StyleTransfer;
use toolkit::experiment::style::models::{ImageScorer, Models};
use toolkit::experiment::{Config, Plan, Progress, check, run};
use toolkit::metrics::image::Embedder;
use toolkit::metrics::image::networks::Network;
use toolkit::models::{Caption, CaptionOptions, Captioner, GenerateRequest, Generated, Generator, LoraChoice, Outline};
use toolkit::prompts::TokenBudget;
use toolkit::run::style::ItemRow;
use toolkit::workers::Team;

/// The most tokens of a prompt; a word is a token.
pub const LIMIT: usize = 12;

/// A photo with this colour in its corner ends the process that describes it.
pub const DEADLY: Rgb<u8> = Rgb([254, 1, 0]);

/// A photo with this colour in its corner cannot be described.
pub const UNSPEAKABLE: Rgb<u8> = Rgb([255, 0, 254]);

#[derive(Debug, Default)]
pub struct Doubles {
    pub batch_size: usize,
    /// Each captioning and drawing takes this long.
    pub pause: Duration,
    pub described: Arc<AtomicUsize>,
    pub drawn: Arc<AtomicUsize>,
    pub loaded: Arc<AtomicUsize>,
    /// Pictures and texts that networks of metrics were shown.
    pub seen: Arc<AtomicUsize>,
    /// Photos as captioners saw them, and as pictures were drawn from them.
    pub shown: Arc<Mutex<Vec<RgbImage>>>,
    pub starts: Arc<Mutex<Vec<RgbImage>>>,
    /// Who shares the work.
    pub team: Option<Team>,
}

impl Doubles {
    pub fn new(batch_size: usize) -> Self {
        Self { batch_size, ..Self::default() }
    }
}

pub fn budget() -> TokenBudget {
    let json = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{"type":"WhitespaceSplit"},"post_processor":null,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"?":0},"unk_token":"?"}}"#;
    let tokenizer: Tokenizer = json.parse().expect("a tokenizer");
    TokenBudget::new(vec![Arc::new(tokenizer)], LIMIT)
}

/// What a style run came to.
pub type Summary = toolkit::experiment::Summary<StyleTransfer>;

impl Captioners for Doubles {
    fn find(&self, needed: &Needed) -> Result<PathBuf> {
        match needed.name.as_str() {
            file if matches!(needed.role, Role::Lora | Role::ControlNet | Role::IpAdapter | Role::IpImages) => {
                Ok(PathBuf::from(file))
            }
            "missing" => bail!("no model is called {:?}", needed.name),
            _ => Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")),
        }
    }

    fn check_captions(&self, captioner: &str, options: &CaptionOptions) -> Result<()> {
        if options.prompt.as_deref() == Some("unanswerable") {
            return Err(usage(format!("{captioner} has no answer")));
        }
        Ok(())
    }

    fn captioner(&self, _name: &str) -> Result<Box<dyn Captioner>> {
        self.loaded.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Describer { pause: self.pause, count: self.described.clone(), shown: self.shown.clone() }))
    }

    fn embedder(&self, _network: Network, name: &str) -> Result<Box<dyn Embedder>> {
        self.loaded.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Gaze { seen: self.seen.clone(), blind: name == "blind" }))
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn place(&self) -> (String, String) {
        ("cpu".to_string(), "float32".to_string())
    }

    fn team(&self) -> Option<&Team> {
        self.team.as_ref()
    }
}

/// Sees the colours of pictures, and the letters of texts.
pub struct Gaze {
    pub seen: Arc<AtomicUsize>,
    /// What it sees is no number.
    pub blind: bool,
}

impl Embedder for Gaze {
    fn pictures(&self, pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        self.seen.fetch_add(pictures.len(), Ordering::SeqCst);
        let mut features = Eye.features(pictures)?;
        if self.blind {
            features.iter_mut().for_each(|row| row[0] = f32::NAN);
        }
        Ok(features)
    }

    fn texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        self.seen.fetch_add(texts.len(), Ordering::SeqCst);
        let count = |text: &String, at: u8| text.bytes().filter(|byte| byte % 6 == at).count() as f32;
        Ok(texts.iter().map(|text| (0..6).map(|at| count(text, at)).collect()).collect())
    }
}

impl Models for Doubles {
    fn token_budget(&self, _generator: &str) -> Result<TokenBudget> {
        Ok(budget())
    }

    fn outline(&self, generator: &str) -> Result<Box<dyn Outline>> {
        Ok(Box::new(Sketch { width: if generator == "wide" { 200 } else { 100 } }))
    }

    fn takes_schedulers(&self, generator: &str) -> Result<bool> {
        Ok(generator != "stubborn")
    }

    fn generator(&self, _name: &str) -> Result<Box<dyn Generator>> {
        self.loaded.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Painter {
            pause: self.pause,
            count: self.drawn.clone(),
            starts: self.starts.clone(),
            budget: budget(),
        }))
    }

    fn scorer(&self, _config: &Config) -> Result<Box<dyn ImageScorer>> {
        self.loaded.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Eye))
    }
}

struct Describer {
    pause: Duration,
    count: Arc<AtomicUsize>,
    shown: Arc<Mutex<Vec<RgbImage>>>,
}

impl Captioner for Describer {
    fn caption(&self, images: &[RgbImage], options: &CaptionOptions) -> Result<Vec<Caption>> {
        std::thread::sleep(self.pause * images.len() as u32);
        self.shown.lock().expect("a lock").extend_from_slice(images);
        let mut captions = Vec::new();
        for image in images {
            if *image.get_pixel(0, 0) == DEADLY {
                std::process::abort();
            }
            if *image.get_pixel(0, 0) == UNSPEAKABLE {
                bail!("words fail me");
            }
            self.count.fetch_add(1, Ordering::SeqCst);
            let [r, g, b] = image.get_pixel(image.width() / 2, image.height() / 2).0;
            let asked = options.prompt.as_deref().unwrap_or("nothing").len();
            let text = format!("red {r},\ngreen {g}, \"blue\" {b}, size {}, asked {asked}", image.width());
            captions.push(Caption { tokens: text.len(), text });
        }
        Ok(captions)
    }
}

struct Sketch {
    width: usize,
}

impl Outline for Sketch {
    fn own_size(&self) -> (usize, usize) {
        (self.width, 100)
    }

    fn check(&self, request: &GenerateRequest) -> Result<()> {
        assert_eq!((request.prompts.len(), request.seeds.len()), (1, 1));
        assert_eq!(request.images.len(), usize::from(request.strength.is_some()));
        assert!(request.control.as_ref().is_none_or(|control| control.images.len() == 1));
        match (request.strength, request.steps) {
            (Some(strength), Some(steps)) if strength * (steps as f64) < 1.0 => Err(usage("no step is left")),
            _ if request.width == Some(7) => Err(usage("width 7 cannot be drawn")),
            _ => Ok(()),
        }
    }
}

struct Painter {
    pause: Duration,
    count: Arc<AtomicUsize>,
    starts: Arc<Mutex<Vec<RgbImage>>>,
    budget: TokenBudget,
}

impl Generator for Painter {
    fn generate(&self, request: &GenerateRequest) -> Result<Vec<Generated>> {
        std::thread::sleep(self.pause * request.prompts.len() as u32);
        self.starts.lock().expect("a lock").extend_from_slice(&request.images);
        let mut pictures = Vec::new();
        for (prompt, seed) in request.prompts.iter().zip(&request.seeds) {
            if prompt.ends_with("unpaintable") {
                bail!("out of paint");
            }
            self.count.fetch_add(1, Ordering::SeqCst);
            let salt = prompt.bytes().fold(*seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            let salt = salt.wrapping_add(request.guidance_scale.unwrap_or(0.0).to_bits() >> 40);
            let salt = salt.wrapping_add(request.strength.unwrap_or(0.0).to_bits() >> 40);
            let salt = salt.wrapping_add(request.solver_options.get("eta").to_bits() >> 40);
            let shown = request.ip_adapter.as_ref().map(ToString::to_string).unwrap_or_default();
            let adapters = LoraChoice::join(&request.loras) + &shown;
            let salt = salt.wrapping_add(adapters.bytes().map(u64::from).sum());
            let salt = salt.wrapping_add(request.scheduler.map_or(0, |name| 1 + name.name().len() as u64));
            assert_eq!(request.images.len(), if request.strength.is_some() { request.prompts.len() } else { 0 });
            // Image-to-image would else take the size of the photo, and text-to-image another.
            let size = if request.images.is_empty() && request.control.is_none() {
                (None, None)
            } else {
                (Some(100), Some(100))
            };
            assert_eq!((request.width, request.height), size);
            // The whole photo counts, not the one of the comparison.
            let photo = request.images.get(pictures.len());
            let photo = photo.map_or(0, |photo| {
                photo.as_raw().iter().fold(photo.width().into(), |sum: u64, v| sum * 3 % 65521 + u64::from(*v))
            });
            let salt = salt.wrapping_add(photo);
            let salt = salt.wrapping_add(request.control.as_ref().map_or(0, |control| {
                assert_eq!(control.images.len(), request.prompts.len());
                let map = control.map.expect("a map").of(&control.images[pictures.len()]);
                map.as_raw().iter().map(|v| u64::from(*v)).sum::<u64>() + control.scale.to_bits() % 65521
            }));
            let image = RgbImage::from_fn(100, 100, |x, y| {
                let at = salt.wrapping_mul(u64::from(x / 20 + 1)).wrapping_add(u64::from(y / 20) * 7919);
                Rgb([(at >> 3) as u8, (at >> 11) as u8, (at >> 19) as u8])
            });
            let remark = (salt % 5 == 0).then(|| "salt is a multiple of five".to_string());
            pictures.push(Generated { image, remark });
        }
        Ok(pictures)
    }

    fn own_size(&self) -> (usize, usize) {
        (100, 100)
    }

    fn token_budget(&self) -> &TokenBudget {
        &self.budget
    }
}

struct Eye;

impl ImageScorer for Eye {
    fn features(&self, pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        let mean = |picture: &RgbImage, channel: usize, half: u32| {
            let pixels = picture.enumerate_pixels().filter(|(x, _, _)| (*x < picture.width() / 2) == (half == 0));
            let (sum, count) = pixels.fold((0u64, 0u64), |(sum, n), (_, _, p)| (sum + u64::from(p.0[channel]), n + 1));
            sum as f32 / count as f32 / 255.0
        };
        let feature = |picture| (0..6).map(|at| mean(picture, at % 3, at as u32 / 3)).collect();
        Ok(pictures.iter().map(feature).collect())
    }

    fn lpips(&self, photos: &[RgbImage], pictures: &[RgbImage]) -> Result<Vec<f64>> {
        let distance = |(a, b): (&RgbImage, &RgbImage)| {
            assert_eq!(a.dimensions(), b.dimensions(), "compared at one size");
            let sum: u64 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            sum as f64 / a.as_raw().len() as f64 / 255.0
        };
        Ok(photos.iter().zip(pictures).map(distance).collect())
    }
}

/// Merges the shards of a style run.
pub fn merge(shards: &[PathBuf], out: &Path) -> Result<Summary> {
    toolkit::experiment::merge::<StyleTransfer>(shards, out)
}

/// A folder with photos of several sizes, style pictures, and an experiment over them.
pub struct World {
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn new(photos: u32) -> Self {
        let world = Self { dir: tempfile::tempdir().expect("a folder") };
        for (folder, count) in [("photos", photos), ("style", 7)] {
            std::fs::create_dir(world.path(folder)).expect("a folder");
            for n in 0..count {
                let picture = RgbImage::from_fn(40 + n, 60, |x, y| {
                    Rgb([(x * 5 + n * 17) as u8, (y * 3 + n * 29) as u8, (n * 53 + count) as u8])
                });
                picture.save(world.path(&format!("{folder}/p{n:02}.png"))).expect("a picture");
            }
        }
        std::fs::write(
            world.path("test.toml"),
            "name = 'test'\nkind = 'style_transfer'\nquestion = 'Which?'\nphotos = 'photos'\nstyle_pictures = 'style'\n\
             inception = 'i'\nlpips_backbone = 'b'\nlpips_linear = 'l'\ncomparison_size = 80\n\
             [axes]\ncaptioner = 'describer'\ngenerator = 'painter'\ninstruction = 'Say it.'\nseed = 3\n\
             [axes.style_text]\nplain = 'in ink'\nlong = 'a drawing in ink, flat colours'\n\
             [profiles.mini]\n[profiles.full]\ngenerator = 'missing'\n",
        )
        .expect("a file");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self, sets: &[&str]) -> Config {
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        Config::load(&self.path("test.toml"), "mini", &sets).expect("a configuration")
    }

    /// Checks and runs into the folder `out`.
    pub fn run(&self, out: &str, sets: &[&str], doubles: &Doubles) -> Result<Summary> {
        run_in(&self.path(out), &self.config(sets), doubles)
    }
}

pub fn run_in(out: &Path, config: &Config, doubles: &Doubles) -> Result<Summary> {
    let plan = Plan::new(config)?;
    check::<StyleTransfer>(&plan, config, doubles)?;
    run::<StyleTransfer>(&plan, config, out, doubles, Progress::new(true))
}

/// A CSV file as text, its times blanked.
pub fn without_times(file: &Path) -> String {
    let mut reader = csv::Reader::from_path(file).expect("a CSV file");
    let header = reader.headers().expect("a header").clone();
    let mut text = header.iter().collect::<Vec<_>>().join("|") + "\n";
    for record in reader.records() {
        let record = record.expect("a row");
        let values =
            header.iter().zip(&record).map(|(name, value)| if name.starts_with("seconds") { "" } else { value });
        text += &(values.collect::<Vec<_>>().join("|") + "\n");
    }
    text
}

/// Every file below a folder that must not depend on where the run was stopped, with its content.
pub fn contents(run: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, dir: &Path, into: &mut Vec<(String, Vec<u8>)>) {
        for entry in std::fs::read_dir(dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below").display().to_string();
            if path.is_dir() {
                walk(root, &path, into);
            } else if name.ends_with(".csv") {
                into.push((name, without_times(&path).into_bytes()));
            } else if name != "manifest.json" && name != "config.toml" {
                into.push((name, std::fs::read(&path).expect("a file")));
            }
        }
    }
    let mut all = Vec::new();
    walk(run, run, &mut all);
    all.sort();
    all
}

/// The same files with the same content.
pub fn assert_same_runs(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    let names = |list: &[(String, Vec<u8>)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for ((name, one), (_, other)) in a.iter().zip(&b) {
        assert!(one == other, "{name} differs:\n{}\n{}", String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    }
}

/// The rows of a run's `items.csv`.
pub fn items(file: PathBuf) -> Vec<ItemRow> {
    toolkit::run::csv::read(&file, &[]).unwrap()
}
