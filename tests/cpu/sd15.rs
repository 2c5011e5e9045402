//! Stable Diffusion 1 against diffusers on tiny random pipelines (`tests/reference/sd15.py`): one as version 1.5 is
//! published, one with every other option.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::{Checkpoint, Weights};
use toolkit::error::UsageError;
use toolkit::models::diffusion::autoencoder_kl::AutoencoderKl;
use toolkit::models::diffusion::stable_diffusion::StableDiffusion;
use toolkit::models::diffusion::stable_diffusion::safety_checker::SafetyChecker;
use toolkit::models::diffusion::stable_diffusion::unet::Unet;
use toolkit::models::text::clip_text::ClipText;
use toolkit::models::{GenerateRequest, Generator};
use toolkit::runtime::{DtypeChoice, Runtime};
use toolkit::schedulers::{SchedulerName, SolverOptions};

const PIPELINES: [&str; 2] = ["like_v1", "other"];
/// Hidden states: float32 sums in another order, over a few layers.
const STATES: f64 = 1e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sd15")
}

fn cpu() -> Runtime {
    Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true }
}

fn load(pipeline: &str) -> StableDiffusion {
    StableDiffusion::load(&golden().join(pipeline), &cpu()).unwrap()
}

fn json<T: DeserializeOwned>(file: impl AsRef<Path>) -> T {
    serde_json::from_slice(&std::fs::read(golden().join(file)).unwrap()).unwrap()
}

fn weights(folder: &str) -> Weights {
    let stem = if folder.contains("text") || folder.contains("safety") { "model" } else { "diffusion_pytorch_model" };
    Checkpoint::open_dir(&golden().join(folder), stem).unwrap().weights(Device::Cpu, Kind::Float)
}

/// A part of a pipeline, built of all its tensors.
fn build<C: DeserializeOwned, T>(folder: &str, new: impl FnOnce(&Weights, &C) -> anyhow::Result<T>) -> T {
    let (place, config) = (weights(folder), json(format!("{folder}/config.json")));
    let part = new(&place, &config).unwrap();
    place.finish().unwrap();
    part
}

/// The values of the reference by name.
struct Reference(Vec<(String, Tensor)>);

impl Reference {
    fn open(name: &str) -> Self {
        Self(Tensor::read_safetensors(golden().join(format!("{name}.safetensors"))).unwrap())
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.0.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("{name}")).1
    }

    fn flags(&self, name: &str) -> Vec<bool> {
        Vec::try_from(self.get(name).to_kind(Kind::Bool)).unwrap()
    }

    fn check(&self, name: &str, ours: &Tensor) {
        let theirs = self.get(name);
        assert_eq!(ours.size(), theirs.size(), "{name}");
        let difference = (ours - theirs).abs().max().double_value(&[]);
        println!("{name}: {difference:.1e}");
        assert!(difference < STATES, "{name}: {difference}");
    }
}

#[test]
fn text_encoders() {
    for pipeline in PIPELINES {
        let reference = Reference::open(pipeline);
        let encoder =
            build(&format!("{pipeline}/text_encoder"), |weights, config| ClipText::new(weights, config, false));
        let states = encoder.forward(reference.get("text_encoder.ids")).last;
        reference.check("text_encoder.states", &states.slice(1, 0, 77, 4));
    }
}

/// At three times, so that a mix-up of steps would show; the latents have odd sides.
#[test]
fn denoisers() {
    for pipeline in PIPELINES {
        let reference = Reference::open(pipeline);
        let encoder =
            build(&format!("{pipeline}/text_encoder"), |weights, config| ClipText::new(weights, config, false));
        let states = encoder.forward(reference.get("text_encoder.ids")).last;
        let unet = build(&format!("{pipeline}/unet"), Unet::new);
        let times = [999, 741, 1];
        let conditioning = unet.condition(&states, &times.map(f64::from));
        for (step, time) in times.into_iter().enumerate() {
            let out = unet.forward(reference.get("unet.latents"), &conditioning, step);
            reference.check(&format!("unet.{time}"), &out);
        }
    }
}

#[test]
fn a_denoiser_without_attention_in_its_middle() {
    let reference = Reference::open("plain_middle");
    let unet = build("plain_middle", Unet::new);
    let conditioning = unet.condition(reference.get("states"), &[321.0]);
    reference.check("out", &unet.forward(reference.get("latents"), &conditioning, 0));
}

/// The first with the names of before diffusers 0.14 and a configuration as short as the published one.
#[test]
fn autoencoders_both_ways() {
    for pipeline in PIPELINES {
        let reference = Reference::open(pipeline);
        let vae = build(&format!("{pipeline}/vae"), AutoencoderKl::new);
        let posterior = vae.encode(reference.get("vae.picture"));
        reference.check("vae.mean", &posterior.mean);
        reference.check("vae.deviation", &posterior.deviation);
        reference.check("vae.decoded", &vae.decode(reference.get("vae.latents")));
    }
    assert!(weights("like_v1/vae").contains("decoder.mid_block.attentions.0.query.weight"));
    assert!(weights("other/vae").contains("decoder.mid_block.attentions.0.to_q.weight"));
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
    scheduler: Option<SchedulerName>,
    #[serde(default)]
    eta: f64,
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
            scheduler: self.scheduler,
            solver_options: SolverOptions::default().with("eta", self.eta),
            ..GenerateRequest::default()
        }
    }
}

fn picture(name: &str) -> RgbImage {
    image::open(golden().join(name)).unwrap().to_rgb8()
}

fn cases() -> Vec<Case> {
    json("cases.json")
}

/// The largest difference of two pictures, in grey levels.
fn apart(ours: &RgbImage, theirs: &RgbImage) -> u8 {
    assert_eq!(ours.dimensions(), theirs.dimensions());
    ours.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// Text to picture and photo to picture: with the checkpoint's own solver and with one that adds noise, odd sizes,
/// strengths from 0.3 to 1, with and without guidance.
#[test]
fn the_same_seed_gives_the_same_picture() {
    for (number, case) in cases().iter().enumerate() {
        let drawn = load(&case.pipeline).generate(&case.request()).unwrap();
        assert_eq!(drawn.len(), case.pictures.len());
        for (ours, theirs) in drawn.iter().zip(&case.pictures) {
            let apart = apart(&ours.image, &picture(theirs));
            println!("case {number}, {theirs}: {apart}");
            assert!(apart <= 1, "case {number}, {theirs}: {apart} grey levels");
            assert_eq!(ours.remark, None);
        }
    }
}

/// Photos of several sizes together too.
#[test]
fn a_batch_draws_what_each_draws_alone() {
    let (noise, photos) = (&cases()[1], &cases()[6]);
    let mut mixed = photos.request();
    mixed.images[1] = picture(&cases()[7].photos[0]);
    mixed.scheduler = Some("euler-ancestral".parse().unwrap());
    for request in [noise.request(), mixed] {
        let pipeline = load("like_v1");
        let together = pipeline.generate(&request).unwrap();
        for (i, batched) in together.iter().enumerate() {
            let alone = GenerateRequest {
                prompts: vec![request.prompts[i].clone()],
                seeds: vec![request.seeds[i]],
                images: request.images.get(i).cloned().into_iter().collect(),
                ..request.clone()
            };
            assert!(apart(&pipeline.generate(&alone).unwrap()[0].image, &batched.image) <= 1);
        }
    }
}

#[test]
fn what_cannot_be_drawn_is_wrong_usage() {
    let pipeline = load("other");
    let good = GenerateRequest {
        prompts: vec!["a cat".to_string()],
        seeds: vec![1],
        steps: Some(2),
        ..GenerateRequest::default()
    };
    let photo = vec![RgbImage::new(16, 16)];
    let wrong = [
        (GenerateRequest { width: Some(30), ..good.clone() }, "nearest: 32"),
        (GenerateRequest { height: Some(0), ..good.clone() }, "nearest: 4"),
        (GenerateRequest { steps: Some(0), ..good.clone() }, "at least one"),
        (GenerateRequest { seeds: vec![1, 2], ..good.clone() }, "2 seeds"),
        (GenerateRequest { strength: Some(0.5), ..good.clone() }, "needs a photo"),
        (GenerateRequest { strength: Some(1.5), images: photo.clone(), ..good.clone() }, "between 0 and 1"),
        (GenerateRequest { strength: Some(0.4), images: photo, ..good.clone() }, "no step"),
        (GenerateRequest { images: vec![RgbImage::new(16, 3)], ..good.clone() }, "too small"),
        (GenerateRequest { guidance_scale: Some(f64::NAN), ..good.clone() }, "guidance"),
        (GenerateRequest { safety_checker: true, ..good.clone() }, "no safety checker"),
    ];
    for (request, words) in wrong {
        let error = pipeline.generate(&request).unwrap_err();
        assert!(error.downcast_ref::<UsageError>().is_some(), "{error:#}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(pipeline.generate(&GenerateRequest::default()).unwrap().is_empty());
}

/// In float16 too the noise is that of diffusers, and the picture the same but for rounding: random weights make much of
/// it, eleven bits of mantissa leave a few grey levels over four steps.
#[test]
fn in_float16_the_picture_is_much_the_same() {
    let rt = Runtime { dtype: DtypeChoice::Float16, ..cpu() };
    let pipeline = StableDiffusion::load(&golden().join("like_v1"), &rt).unwrap();
    let request = GenerateRequest {
        prompts: cases()[0].prompts.clone(),
        seeds: vec![21],
        steps: Some(3),
        guidance_scale: Some(2.0),
        ..GenerateRequest::default()
    };
    let noise = GenerateRequest { width: Some(40), height: Some(48), ..request.clone() };
    let photo = GenerateRequest { images: vec![picture("float16_from.png")], strength: Some(0.7), ..request };
    for (request, name) in [(noise, "float16.png"), (photo, "float16_photo.png")] {
        let (drawn, theirs) = (pipeline.generate(&request).unwrap(), picture(name));
        assert_eq!(drawn[0].image.dimensions(), theirs.dimensions());
        let differences = drawn[0].image.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let mean = differences.sum::<f64>() / theirs.as_raw().len() as f64;
        println!("{name}: mean difference {mean:.2}");
        assert!(mean < 1.0, "{name}: {mean} grey levels on average");
        assert_eq!(drawn[0].remark, None);
    }
}

fn checker() -> SafetyChecker {
    let extractor = golden().join("like_v1/feature_extractor");
    build("like_v1/safety_checker", |weights, config| SafetyChecker::new(weights, config, &extractor))
}

#[test]
fn the_safety_checker_sees_and_decides_the_same() {
    let (reference, checker) = (Reference::open("safety"), checker());
    let flags = reference.flags("flags");
    let pictures: Vec<RgbImage> = (0..flags.len()).map(|i| picture(&format!("checked_{i}.png"))).collect();
    let pixels = checker.pixels(&pictures);
    reference.check("pixels", &pixels);
    let embeds = checker.embed(&pixels);
    reference.check("embeds", &embeds);
    let (special, concepts) = checker.scores(&embeds);
    reference.check("special", &special);
    reference.check("concepts", &concepts);
    assert_eq!(checker.check(&pictures).unwrap(), flags);
    assert!(flags.contains(&true) && flags.contains(&false));
    // Many embeddings near the thresholds, for some of which special care decides.
    assert_eq!(checker.decide(reference.get("near")).unwrap(), reference.flags("near_flags"));
}

/// The hub's cache may hold a pipeline without the parts that are not used unless asked for.
#[test]
fn a_checker_that_is_not_there_is_said_to_be_missing() {
    let copy = tempfile::tempdir().unwrap();
    for part in ["model_index.json", "text_encoder", "tokenizer", "unet", "vae", "scheduler"] {
        std::os::unix::fs::symlink(golden().join("like_v1").join(part), copy.path().join(part)).unwrap();
    }
    let pipeline = StableDiffusion::load(copy.path(), &cpu()).unwrap();
    let request = GenerateRequest { safety_checker: true, steps: Some(1), ..cases()[2].request() };
    let error = pipeline.generate(&request).unwrap_err();
    assert!(error.downcast_ref::<UsageError>().is_some() && error.to_string().contains("hf download"), "{error:#}");
    assert!(pipeline.generate(&GenerateRequest { safety_checker: false, ..request }).is_ok());
}

#[derive(Deserialize)]
struct Checked {
    prompt: String,
    steps: usize,
    size: usize,
    flags: Vec<bool>,
}

#[test]
fn pictures_that_the_checker_objects_to_are_black_and_remarked_on() {
    let checked: Checked = json("safety.json");
    let count = checked.flags.len();
    let request = GenerateRequest {
        prompts: vec![checked.prompt; count],
        seeds: (0..count as u64).collect(),
        steps: Some(checked.steps),
        width: Some(checked.size),
        height: Some(checked.size),
        safety_checker: true,
        ..GenerateRequest::default()
    };
    let pipeline = load("like_v1");
    let drawn = pipeline.generate(&request).unwrap();
    let unchecked = pipeline.generate(&GenerateRequest { safety_checker: false, ..request }).unwrap();
    for ((drawn, unchecked), flag) in drawn.iter().zip(&unchecked).zip(checked.flags) {
        assert_eq!(drawn.image.as_raw().iter().all(|&value| value == 0), flag);
        assert_eq!(drawn.remark.as_deref().is_some_and(|remark| remark.contains("safety checker")), flag);
        assert!(unchecked.remark.is_none() && (flag || unchecked.image == drawn.image));
    }
}

/// The embedded model from the command line, from noise and from a photo.
#[test]
fn stylize_with_the_embedded_model() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("mini.png");
    let toolkit = || {
        let mut command = assert_cmd::Command::cargo_bin("toolkit").unwrap();
        command.args(["--device", "cpu", "--offline", "stylize", "--model", "mini-sd-v1-5"]);
        command
    };
    let prompt = ["--prompt", "an avatar with red hair, pixel art", "--steps", "6", "--seed", "4", "--out"];
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/mini/photos/face-001.png");
    let photo = ["--strength", "0.6", "--image", photo.to_str().unwrap()];
    for (more, expected) in [(&[][..], "mini.png"), (&photo[..], "mini_photo.png")] {
        toolkit().args(prompt).arg(&out).args(more).assert().success();
        let (ours, theirs) = (image::open(&out).unwrap().to_rgb8(), picture(expected));
        assert!(apart(&ours, &theirs) <= 1, "{expected}: {} grey levels", apart(&ours, &theirs));
    }
    // What cannot be is said in one line, with the right status, and nothing is written.
    let never = folder.path().join("never.png");
    for wrong in [vec!["--width", "30"], vec!["--strength", "0.5"], vec!["--steps", "0"], vec!["--safety-checker"]] {
        toolkit().args(prompt).arg(&never).args(wrong).assert().code(2);
    }
    assert!(!never.exists());
}

#[test]
fn verify_and_measure_the_embedded_model() {
    let run = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("toolkit").unwrap();
        let output = command.args(["--device", "cpu", "--offline"]).args(arguments).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    assert!(run(&["models", "verify", "mini-sd-v1-5"]).contains("the model builds"));
    let verified = run(&["models", "verify", golden().join("like_v1").to_str().unwrap()]);
    assert!(
        verified.contains("the model builds") && verified.contains("safety_checker/model.safetensors"),
        "{verified}"
    );
    for (strength, steps) in [(None, 5), (Some("0.5"), 3)] {
        let mut arguments = vec!["bench", "mini-sd-v1-5", "--steps", "4", "--repeat", "1", "--batch-size", "2"];
        arguments.extend(strength.iter().flat_map(|strength| ["--strength", strength]));
        let figures: serde_json::Value = serde_json::from_str(&run(&arguments)).unwrap();
        // PNDM visits its second time twice, and a photo leaves out times from the front.
        assert_eq!(figures["steps"], steps);
        assert_eq!(figures.get("photo_encode_seconds").is_some(), strength.is_some());
        assert!(
            figures["seconds_per_image"].as_f64().unwrap() > 0.0 && figures["step_seconds"].as_f64().unwrap() > 0.0
        );
        // Before it, the process started and loaded the model.
        let (first, load) = (&figures["first_picture_seconds"], &figures["load_seconds"]);
        assert!(first.as_f64().unwrap() > load.as_f64().unwrap(), "{first} {load}");
    }
}

/// In an experiment what the checker objects to is black, and its row says why; without one it does not begin.
#[test]
fn an_experiment_with_the_safety_checker() {
    let (folder, like_v1) = (tempfile::tempdir().unwrap(), golden().join("like_v1"));
    let run = |generator: &str| {
        let mut command = assert_cmd::Command::cargo_bin("toolkit").unwrap();
        command.args(["--device", "cpu", "--offline", "experiment", "style_ablation", "--limit", "1", "--out"]);
        command.arg(folder.path().join("run")).args(["--set", &format!("generator={generator}")]);
        for set in ["safety_checker=true", "seed=[0,1,2,3]", "steps=3", "width=64", "height=64"] {
            command.args(["--set", set]);
        }
        command.assert()
    };
    let refused = run("mini-sd-v1-5").code(2);
    assert!(String::from_utf8_lossy(&refused.get_output().stderr).contains("mini-sd-v1-5 has no safety checker"));
    run(like_v1.to_str().unwrap()).success();
    let mut items = csv::Reader::from_path(folder.path().join("run/items.csv")).unwrap();
    let column = |name: &str, headers: &csv::StringRecord| headers.iter().position(|header| header == name).unwrap();
    let headers = items.headers().unwrap().clone();
    let (image, remark) = (column("image", &headers), column("remark", &headers));
    let mut flagged = Vec::new();
    for row in items.records().map(Result::unwrap) {
        let drawn = toolkit::images::load(folder.path().join("run").join(&row[image])).unwrap();
        let black = drawn.as_raw().iter().all(|&value| value == 0);
        assert_eq!(black, row[remark].contains("safety checker"), "{row:?}");
        flagged.push(black);
    }
    assert!(flagged.contains(&true) && flagged.contains(&false), "{flagged:?}");
}
