//! Stable Diffusion 1 against diffusers on tiny random pipelines (`tests/reference/sd15.py`): one as version 1.5 is
//! published, one with every other option.

use std::path::Path;

use image::RgbImage;
use serde::Deserialize;
use toolkit::error::UsageError;
use toolkit::models::diffusion::stable_diffusion::StableDiffusion;
use toolkit::models::diffusion::stable_diffusion::safety_checker::SafetyChecker;
use toolkit::models::diffusion::stable_diffusion::unet::Unet;
use toolkit::models::text::clip_text::ClipText;
use toolkit::models::{GenerateRequest, Generator};
use toolkit::runtime::{DtypeChoice, Runtime};

use crate::diffusion::{Golden, apart, check_alone, check_refused, cpu};

const PIPELINES: [&str; 2] = ["like_v1", "other"];
const GOLDEN: Golden = Golden("sd15");

fn load(pipeline: &str) -> StableDiffusion {
    StableDiffusion::load(&GOLDEN.path(pipeline), &cpu()).unwrap()
}

#[test]
fn text_encoders() {
    for pipeline in PIPELINES {
        let reference = GOLDEN.reference(pipeline);
        let encoder =
            GOLDEN.build(&format!("{pipeline}/text_encoder"), |weights, config| ClipText::new(weights, config, false));
        let states = encoder.forward(reference.get("text_encoder.ids")).last;
        reference.check("text_encoder.states", &states.slice(1, 0, 77, 4));
    }
}

/// At three times, so that a mix-up of steps would show; the latents have odd sides.
#[test]
fn denoisers() {
    for pipeline in PIPELINES {
        let reference = GOLDEN.reference(pipeline);
        let encoder =
            GOLDEN.build(&format!("{pipeline}/text_encoder"), |weights, config| ClipText::new(weights, config, false));
        let states = encoder.forward(reference.get("text_encoder.ids")).last;
        let unet = GOLDEN.build(&format!("{pipeline}/unet"), Unet::new);
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
    let reference = GOLDEN.reference("plain_middle");
    let unet = GOLDEN.build("plain_middle", Unet::new);
    let conditioning = unet.condition(reference.get("states"), &[321.0]);
    reference.check("out", &unet.forward(reference.get("latents"), &conditioning, 0));
}

/// The first with the names of before diffusers 0.14 and a configuration as short as the published one.
#[test]
fn autoencoders_both_ways() {
    for pipeline in PIPELINES {
        GOLDEN.check_autoencoder(pipeline);
    }
    assert!(GOLDEN.weights("like_v1/vae").contains("decoder.mid_block.attentions.0.query.weight"));
    assert!(GOLDEN.weights("other/vae").contains("decoder.mid_block.attentions.0.to_q.weight"));
}

/// Text to picture and photo to picture: with the checkpoint's own solver and with one that adds noise, odd sizes,
/// strengths from 0.3 to 1, with and without guidance.
#[test]
fn the_same_seed_gives_the_same_picture() {
    GOLDEN.check_cases(|pipeline| Box::new(load(pipeline)));
}

/// Photos of several sizes together too.
#[test]
fn a_batch_draws_what_each_draws_alone() {
    let cases = GOLDEN.cases();
    let mut mixed = GOLDEN.request(&cases[6]);
    mixed.images[1] = GOLDEN.picture(&cases[7].photos[0]);
    mixed.scheduler = Some("euler-ancestral".parse().unwrap());
    for request in [GOLDEN.request(&cases[1]), mixed] {
        check_alone(&load("like_v1"), &request);
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
    check_refused(&pipeline, wrong);
}

/// In float16 too the noise is that of diffusers, and the picture the same but for rounding: random weights make much of
/// it, eleven bits of mantissa leave a few grey levels over four steps.
#[test]
fn in_float16_the_picture_is_much_the_same() {
    let rt = Runtime { dtype: DtypeChoice::Float16, ..cpu() };
    let pipeline = StableDiffusion::load(&GOLDEN.path("like_v1"), &rt).unwrap();
    let request = GenerateRequest {
        prompts: GOLDEN.cases()[0].prompts.clone(),
        seeds: vec![21],
        steps: Some(3),
        guidance_scale: Some(2.0),
        ..GenerateRequest::default()
    };
    let noise = GenerateRequest { width: Some(40), height: Some(48), ..request.clone() };
    let photo = GenerateRequest { images: vec![GOLDEN.picture("float16_from.png")], strength: Some(0.7), ..request };
    for (request, name) in [(noise, "float16.png"), (photo, "float16_photo.png")] {
        GOLDEN.check_half(&pipeline, &request, name, 1.0);
    }
}

fn checker() -> SafetyChecker {
    let extractor = GOLDEN.path("like_v1/feature_extractor");
    GOLDEN.build("like_v1/safety_checker", |weights, config| SafetyChecker::new(weights, config, &extractor))
}

#[test]
fn the_safety_checker_sees_and_decides_the_same() {
    let (reference, checker) = (GOLDEN.reference("safety"), checker());
    let flags = reference.flags("flags");
    let pictures: Vec<RgbImage> = (0..flags.len()).map(|i| GOLDEN.picture(&format!("checked_{i}.png"))).collect();
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
        std::os::unix::fs::symlink(GOLDEN.path("like_v1").join(part), copy.path().join(part)).unwrap();
    }
    let pipeline = StableDiffusion::load(copy.path(), &cpu()).unwrap();
    let request = GenerateRequest { safety_checker: true, steps: Some(1), ..GOLDEN.request(&GOLDEN.cases()[2]) };
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
    let checked: Checked = GOLDEN.json("safety.json");
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
        let (ours, theirs) = (image::open(&out).unwrap().to_rgb8(), GOLDEN.picture(expected));
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
    let verified = run(&["models", "verify", GOLDEN.path("like_v1").to_str().unwrap()]);
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

/// With adapters by their built-in names; what none of them is, is refused.
#[test]
fn bench_measures_what_changes_and_steers() {
    let bench = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("toolkit").unwrap();
        command.args(["--device", "cpu", "--offline", "bench"]).args(arguments).assert()
    };
    let few = ["mini-sd-v1-5", "--steps", "2", "--repeat", "1"];
    let run = |more: &[&str]| -> serde_json::Value {
        let run = bench(&[&few[..], more].concat()).success();
        serde_json::from_slice(&run.get_output().stdout).unwrap()
    };
    let loras = ["lora_first_merge_seconds", "lora_merge_seconds", "lora_removal_seconds"];
    for (more, prepares, merges) in [
        (&[][..], false, false),
        (&["--lora", "mini-lora-sd-v1-5:0.7"], false, true),
        (&["--controlnet", "mini-controlnet-canny", "--strength", "0.6"], true, false),
        (&["--ip-adapter", "mini-ip-adapter", "--batch-size", "2", "--lora", "mini-lora-sd-v1-5"], true, true),
    ] {
        let figures = run(more);
        assert_eq!(figures.get("prepare_seconds").is_some(), prepares, "{figures}");
        assert!(loras.iter().all(|name| figures.get(name).is_some() == merges), "{figures}");
        assert!(figures["step_seconds"].as_f64().unwrap() > 0.0);
    }
    for (more, said) in [
        (
            &["blip-base", "--random-weights", "--lora", "a.safetensors"][..],
            "--lora, --controlnet and --ip-adapter are for models that draw",
        ),
        (&["mini-sd3", "--controlnet", "mini-controlnet-canny"], "takes no ControlNet here"),
        (
            &["mini-sd-v1-5", "--lora", "absent.safetensors"],
            "absent.safetensors: no such file of low-rank adapters (LoRA)",
        ),
        (&["mini-sd-v1-5", "--lora", "mini-lora-sd3"], "this is a LoRA for Stable Diffusion 3"),
    ] {
        bench(more).code(2).stderr(predicates::str::contains(said));
    }
}

/// In an experiment what the checker objects to is black, and its row says why; without one it does not begin.
#[test]
fn an_experiment_with_the_safety_checker() {
    let (folder, like_v1) = (tempfile::tempdir().unwrap(), GOLDEN.path("like_v1"));
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
