//! Stable Diffusion 3 against diffusers on tiny random pipelines (`tests/reference/sd3.py`): three
//! configurations, with and without T5, like 3.0 and like 3.5.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::{Checkpoint, Weights};
use toolkit::error::UsageError;
use toolkit::models::diffusion::autoencoder_kl::AutoencoderKl;
use toolkit::models::diffusion::stable_diffusion_3::StableDiffusion3;
use toolkit::models::diffusion::stable_diffusion_3::mmdit::Mmdit;
use toolkit::models::text::clip_text::ClipText;
use toolkit::models::text::t5_encoder::T5Encoder;
use toolkit::models::{GenerateRequest, Generator};
use toolkit::runtime::{DtypeChoice, Runtime};

const PIPELINES: [&str; 3] = ["with_t5", "without_t5", "like_sd35"];
/// Hidden states: float32 sums in another order, over a few layers.
const STATES: f64 = 1e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sd3")
}

fn cpu() -> Runtime {
    Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true }
}

fn config<T: DeserializeOwned>(pipeline: &str, part: &str) -> T {
    let file = golden().join(pipeline).join(part).join("config.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn weights(pipeline: &str, part: &str) -> Weights {
    let stem = if part.starts_with("text") { "model" } else { "diffusion_pytorch_model" };
    let checkpoint = Checkpoint::open_dir(&golden().join(pipeline).join(part), stem).unwrap();
    checkpoint.weights(Device::Cpu, Kind::Float)
}

/// The values of the reference by name.
struct Reference(Vec<(String, Tensor)>);

impl Reference {
    fn open(pipeline: &str) -> Self {
        Self(Tensor::read_safetensors(golden().join(format!("{pipeline}.safetensors"))).unwrap())
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.0.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("{name}")).1
    }

    fn check(&self, name: &str, ours: &Tensor) {
        let theirs = self.get(name);
        assert_eq!(ours.size(), theirs.size(), "{name}");
        let difference = (ours - theirs).abs().max().double_value(&[]);
        println!("{name}: {difference:.1e}");
        assert!(difference < STATES, "{name}: {difference}");
    }
}

/// Every `step`-th token, as the reference keeps them.
fn every(states: &Tensor, step: i64) -> Tensor {
    states.slice(1, 0, states.size()[1], step)
}

#[test]
fn clip_text_encoders() {
    for pipeline in PIPELINES {
        let reference = Reference::open(pipeline);
        for part in ["text_encoder", "text_encoder_2"] {
            let place = weights(pipeline, part);
            let encoder = ClipText::new(&place, &config(pipeline, part), true).unwrap();
            place.finish().unwrap();
            let out = encoder.forward(reference.get(&format!("{part}.ids")));
            reference.check(&format!("{part}.penultimate"), &every(&out.penultimate, 4));
            reference.check(&format!("{part}.last"), &every(&out.last, 4));
            reference.check(&format!("{part}.pooled"), &out.pooled);
        }
    }
}

#[test]
fn t5_encoders() {
    for pipeline in ["with_t5", "like_sd35"] {
        let (reference, place) = (Reference::open(pipeline), weights(pipeline, "text_encoder_3"));
        let encoder = T5Encoder::new(&place, &config(pipeline, "text_encoder_3")).unwrap();
        place.finish().unwrap();
        let states = encoder.forward(reference.get("text_encoder_3.ids"));
        reference.check("text_encoder_3.states", &every(&states, 8));
    }
}

/// In float16 the wide matrices stay in float32, and nothing overflows.
#[test]
fn t5_in_float16() {
    let reference = Reference::open("with_t5");
    let place = Checkpoint::open_dir(&golden().join("with_t5/text_encoder_3"), "model").unwrap();
    let place = place.weights(Device::Cpu, Kind::Half);
    let encoder = T5Encoder::new(&place, &config("with_t5", "text_encoder_3")).unwrap();
    let states = encoder.forward(reference.get("text_encoder_3.ids"));
    assert_eq!(states.kind(), Kind::Half);
    let difference = every(&states.to_kind(Kind::Float), 8) - reference.get("text_encoder_3.states");
    // Eleven bits of mantissa over two layers, on states of size 1 to 4.
    assert!(difference.abs().max().double_value(&[]) < 0.05);
}

#[test]
fn autoencoders_both_ways() {
    for pipeline in PIPELINES {
        let (reference, place) = (Reference::open(pipeline), weights(pipeline, "vae"));
        let vae = AutoencoderKl::new(&place, &config(pipeline, "vae")).unwrap();
        place.finish().unwrap();
        let posterior = vae.encode(reference.get("vae.picture"));
        reference.check("vae.mean", &posterior.mean);
        reference.check("vae.deviation", &posterior.deviation);
        reference.check("vae.decoded", &vae.decode(reference.get("vae.latents")));
    }
}

/// Files written before diffusers 0.14 name the attention's tensors differently.
#[test]
fn autoencoder_with_old_names() {
    let reference = Reference::open("with_t5");
    let renamed = |key: &str| {
        let names = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
        let old = names.iter().fold(key.to_string(), |key, (new, old)| key.replace(new, old));
        Some(old)
    };
    let checkpoint = Checkpoint::open_dir(&golden().join("with_t5/vae"), "diffusion_pytorch_model").unwrap();
    let place = checkpoint.rename(renamed).unwrap().weights(Device::Cpu, Kind::Float);
    let vae = AutoencoderKl::new(&place, &config("with_t5", "vae")).unwrap();
    place.finish().unwrap();
    reference.check("vae.decoded", &vae.decode(reference.get("vae.latents")));
}

#[test]
fn transformers() {
    for pipeline in PIPELINES {
        let reference = Reference::open(pipeline);
        let place = weights(pipeline, "transformer");
        let transformer = Mmdit::new(&place, &config(pipeline, "transformer")).unwrap();
        place.finish().unwrap();
        let prompts =
            ["a young woman with long red hair, oil painting", "An old man's portrait: black hat, pencil sketch!"];
        let pipe = StableDiffusion3::load(&golden().join(pipeline), &cpu()).unwrap();
        let embeddings = pipe.encode(&prompts.map(str::to_string)).unwrap();
        // The second of two steps, so that a mix-up of steps would show.
        let conditioning = transformer.condition(&embeddings.prompt, &embeddings.pooled, &[999.0, 741.25]);
        let (latents, second) = (reference.get("transformer.latents"), conditioning.modulations.get(1));
        let velocity = transformer.forward(latents, &conditioning.context, &second);
        reference.check("transformer.velocity", &velocity);
    }
}

#[derive(Deserialize)]
struct Case {
    pipeline: String,
    prompts: Vec<String>,
    negative_prompt: Option<String>,
    seeds: Vec<u64>,
    steps: Option<usize>,
    guidance_scale: Option<f64>,
    width: Option<usize>,
    height: Option<usize>,
    strength: Option<f64>,
    photos: Vec<String>,
    pictures: Vec<String>,
}

impl Case {
    fn request(&self) -> GenerateRequest {
        GenerateRequest {
            prompts: self.prompts.clone(),
            negative_prompt: self.negative_prompt.clone(),
            seeds: self.seeds.clone(),
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            width: self.width,
            height: self.height,
            images: self.photos.iter().map(|name| picture(name)).collect(),
            strength: self.strength,
            ..GenerateRequest::default()
        }
    }
}

fn picture(name: &str) -> RgbImage {
    image::open(golden().join(name)).unwrap().to_rgb8()
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(golden().join("cases.json")).unwrap()).unwrap()
}

/// The largest difference of two pictures, in grey levels.
fn apart(ours: &RgbImage, theirs: &RgbImage) -> u8 {
    assert_eq!(ours.dimensions(), theirs.dimensions());
    ours.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_picture() {
    for (number, case) in cases().iter().enumerate() {
        let pipeline = StableDiffusion3::load(&golden().join(&case.pipeline), &cpu()).unwrap();
        let drawn = pipeline.generate(&case.request()).unwrap();
        assert_eq!(drawn.len(), case.pictures.len());
        for (ours, theirs) in drawn.iter().zip(&case.pictures) {
            let apart = apart(&ours.image, &picture(theirs));
            println!("case {number}, {theirs}: {apart}");
            assert!(apart <= 1, "case {number}, {theirs}: {apart} grey levels");
            assert_eq!(ours.remark, None);
        }
    }
}

#[test]
fn a_batch_draws_what_each_draws_alone() {
    let case = &cases()[1];
    let pipeline = StableDiffusion3::load(&golden().join(&case.pipeline), &cpu()).unwrap();
    let together = pipeline.generate(&case.request()).unwrap();
    for (i, batched) in together.iter().enumerate() {
        let request =
            GenerateRequest { prompts: vec![case.prompts[i].clone()], seeds: vec![case.seeds[i]], ..case.request() };
        assert!(apart(&pipeline.generate(&request).unwrap()[0].image, &batched.image) <= 1);
    }
}

#[test]
fn what_cannot_be_drawn_is_wrong_usage() {
    let pipeline = StableDiffusion3::load(&golden().join("with_t5"), &cpu()).unwrap();
    let good = GenerateRequest {
        prompts: vec!["a cat".to_string()],
        seeds: vec![1],
        steps: Some(2),
        ..GenerateRequest::default()
    };
    let photo = vec![RgbImage::new(8, 8)];
    let wrong = [
        (GenerateRequest { width: Some(30), ..good.clone() }, "nearest: 32"),
        (GenerateRequest { height: Some(4000), ..good.clone() }, "nearest: 80"),
        (GenerateRequest { height: Some(0), ..good.clone() }, "nearest: 4"),
        (GenerateRequest { steps: Some(0), ..good.clone() }, "at least one"),
        (GenerateRequest { seeds: vec![1, 2], ..good.clone() }, "2 seeds"),
        (GenerateRequest { strength: Some(0.5), ..good.clone() }, "needs a photo"),
        (GenerateRequest { strength: Some(1.5), images: photo.clone(), ..good.clone() }, "between 0 and 1"),
        (GenerateRequest { strength: Some(0.0), images: photo, ..good.clone() }, "no step"),
        (GenerateRequest { guidance_scale: Some(f64::NAN), ..good.clone() }, "guidance"),
        (GenerateRequest { scheduler: Some("ddim".parse().unwrap()), ..good.clone() }, "leave the scheduler out"),
        (GenerateRequest { safety_checker: true, ..good.clone() }, "no safety checker"),
    ];
    for (request, words) in wrong {
        let error = pipeline.generate(&request).unwrap_err();
        assert!(error.downcast_ref::<UsageError>().is_some(), "{error:#}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(pipeline.generate(&GenerateRequest::default()).unwrap().is_empty());
}

/// In bfloat16 too the noise is that of diffusers, and the picture the same but for rounding: random
/// weights make much of it, eight bits of mantissa leave a few grey levels over two steps.
#[test]
fn in_bfloat16_the_picture_is_much_the_same() {
    let rt = Runtime { dtype: DtypeChoice::Bfloat16, ..cpu() };
    let request = GenerateRequest {
        prompts: vec![cases()[0].prompts[0].clone()],
        seeds: vec![21],
        steps: Some(2),
        guidance_scale: Some(2.0),
        width: Some(16),
        height: Some(24),
        ..GenerateRequest::default()
    };
    let drawn = StableDiffusion3::load(&golden().join("with_t5"), &rt).unwrap().generate(&request).unwrap();
    let theirs = picture("bfloat16.png");
    assert_eq!(drawn[0].image.dimensions(), theirs.dimensions());
    let differences = drawn[0].image.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let mean = differences.sum::<f64>() / theirs.as_raw().len() as f64;
    println!("mean difference in bfloat16: {mean:.2}");
    assert!(mean < 4.0, "{mean} grey levels on average");
    assert_eq!(drawn[0].remark, None);
}

/// The embedded model, from the command line.
#[test]
fn stylize_with_the_embedded_model() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("mini.png");
    let toolkit = || {
        let mut command = assert_cmd::Command::cargo_bin("toolkit").unwrap();
        command.args(["--device", "cpu", "--offline", "stylize", "--model", "mini-sd3"]);
        command
    };
    let prompt = ["--prompt", "an avatar with red hair, pixel art", "--steps", "6", "--seed", "4", "--out"];
    toolkit().args(prompt).arg(&out).assert().success();
    let (ours, theirs) = (image::open(&out).unwrap().to_rgb8(), picture("mini.png"));
    assert!(apart(&ours, &theirs) <= 1, "{} grey levels", apart(&ours, &theirs));
    // What cannot be is said in one line, with the right status, and nothing is written.
    let never = folder.path().join("never.png");
    for wrong in [vec!["--width", "30"], vec!["--strength", "0.5"], vec!["--steps", "0"]] {
        toolkit().args(prompt).arg(&never).args(wrong).assert().code(2);
    }
    toolkit().args(prompt).arg(folder.path().join("never.tga")).assert().code(2);
    assert!(!never.exists());
}

/// Strengths beside each other, a row for each seed; what stands there is what is drawn alone.
#[test]
fn a_contact_sheet_of_strengths_and_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/mini/photos/face-002.png");
    let stylize = |options: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("toolkit").unwrap();
        command.args(["--device", "cpu", "--offline", "stylize", "--model", "mini-sd3", "--image", photo]);
        command.args(["--prompt", "an avatar with red hair, pixel art", "--steps", "4"]).args(options).assert()
    };
    let (sheet, alone) = (file("sheet.png"), file("alone.png"));
    let several = ["--strength", "0.5", "--strength", "0.75", "--seed", "1", "--seed", "2"];
    stylize(&[&several[..], &["--out", &sheet]].concat()).code(2);
    stylize(&[&several[..], &["--contact-sheet", "--out", &sheet]].concat()).success();
    stylize(&["--strength", "0.75", "--seed", "2", "--out", &alone]).success();
    let (sheet, alone) = (toolkit::images::load(&sheet).unwrap(), toolkit::images::load(&alone).unwrap());
    // The last picture of the second row, each pixel 4 × 4.
    assert_eq!((alone.dimensions(), sheet.width() > 3 * 384, sheet.height() > 2 * 384), ((96, 96), true, true));
    let shown = image::imageops::resize(&alone, 384, 384, image::imageops::FilterType::Nearest);
    let here = |x: u32, y: u32| (0..384).all(|i| sheet.get_pixel(x + i, y + i) == shown.get_pixel(i, i));
    let x = sheet.width() - 384 - 2 * (14 + 10);
    assert!((384..sheet.height() - 384).any(|y| here(x, y)), "the picture is on the sheet");
}
