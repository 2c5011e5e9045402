//! Stable Diffusion 3 against diffusers on tiny random pipelines (`tests/reference/sd3.py`): three
//! configurations, with and without T5, like 3.0 and like 3.5.

use image::RgbImage;
use tch::{Device, Kind, Tensor};
use toolkit::models::GenerateRequest;
use toolkit::models::diffusion::autoencoder_kl::AutoencoderKl;
use toolkit::models::diffusion::stable_diffusion_3::StableDiffusion3;
use toolkit::models::diffusion::stable_diffusion_3::mmdit::Mmdit;
use toolkit::models::text::clip_text::ClipText;
use toolkit::models::text::t5_encoder::T5Encoder;
use toolkit::runtime::{DtypeChoice, Runtime};

use crate::diffusion::{Golden, apart, check_alone, check_refused, cpu};

const PIPELINES: [&str; 4] = ["with_t5", "without_t5", "like_sd35", "like_sd35_large"];
const GOLDEN: Golden = Golden("sd3");

fn load(pipeline: &str) -> StableDiffusion3 {
    StableDiffusion3::load(&GOLDEN.path(pipeline), &cpu()).unwrap()
}

/// Every `step`-th token, as the reference keeps them.
fn every(states: &Tensor, step: i64) -> Tensor {
    states.slice(1, 0, states.size()[1], step)
}

#[test]
fn clip_text_encoders() {
    for pipeline in PIPELINES {
        let reference = GOLDEN.reference(pipeline);
        for part in ["text_encoder", "text_encoder_2"] {
            let new = |weights: &_, config: &_| ClipText::new(weights, config, true);
            let encoder = GOLDEN.build(&format!("{pipeline}/{part}"), new);
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
        let reference = GOLDEN.reference(pipeline);
        let encoder = GOLDEN.build(&format!("{pipeline}/text_encoder_3"), T5Encoder::new);
        let states = encoder.forward(reference.get("text_encoder_3.ids"));
        reference.check("text_encoder_3.states", &every(&states, 8));
    }
}

/// In float16 the wide matrices stay in float32, and nothing overflows.
#[test]
fn t5_in_float16() {
    let reference = GOLDEN.reference("with_t5");
    let place = GOLDEN.checkpoint("with_t5/text_encoder_3").weights(Device::Cpu, Kind::Half);
    let encoder = T5Encoder::new(&place, &GOLDEN.json("with_t5/text_encoder_3/config.json")).unwrap();
    let states = encoder.forward(reference.get("text_encoder_3.ids"));
    assert_eq!(states.kind(), Kind::Half);
    let difference = every(&states.to_kind(Kind::Float), 8) - reference.get("text_encoder_3.states");
    // Eleven bits of mantissa over two layers, on states of size 1 to 4.
    assert!(difference.abs().max().double_value(&[]) < 0.05);
}

#[test]
fn autoencoders_both_ways() {
    for pipeline in PIPELINES {
        GOLDEN.check_autoencoder(pipeline);
    }
}

/// Files written before diffusers 0.14 name the attention's tensors differently.
#[test]
fn autoencoder_with_old_names() {
    let reference = GOLDEN.reference("with_t5");
    let renamed = |key: &str| {
        let names = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
        let old = names.iter().fold(key.to_string(), |key, (new, old)| key.replace(new, old));
        Some(old)
    };
    let place = GOLDEN.checkpoint("with_t5/vae").rename(renamed).unwrap().weights(Device::Cpu, Kind::Float);
    let vae = AutoencoderKl::new(&place, &GOLDEN.json("with_t5/vae/config.json")).unwrap();
    place.finish().unwrap();
    reference.check("vae.decoded", &vae.decode(reference.get("vae.latents")));
}

#[test]
fn transformers() {
    for pipeline in PIPELINES {
        let reference = GOLDEN.reference(pipeline);
        let transformer = GOLDEN.build(&format!("{pipeline}/transformer"), Mmdit::new);
        let prompts =
            ["a young woman with long red hair, oil painting", "An old man's portrait: black hat, pencil sketch!"];
        let embeddings = load(pipeline).encode(&prompts.map(str::to_string)).unwrap();
        // The second of two steps, so that a mix-up of steps would show.
        let conditioning = transformer.condition(&embeddings.prompt, &embeddings.pooled, &[999.0, 741.25]);
        let (latents, second) = (reference.get("transformer.latents"), conditioning.modulations.get(1));
        let velocity = transformer.forward(latents, &conditioning.context, &second);
        reference.check("transformer.velocity", &velocity);
    }
}

#[test]
fn the_same_seed_gives_the_same_picture() {
    GOLDEN.check_cases(|pipeline| Box::new(load(pipeline)));
}

#[test]
fn a_batch_draws_what_each_draws_alone() {
    let case = &GOLDEN.cases()[1];
    check_alone(&load(&case.pipeline), &GOLDEN.request(case));
}

#[test]
fn what_cannot_be_drawn_is_wrong_usage() {
    let pipeline = load("with_t5");
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
    check_refused(&pipeline, wrong);
}

/// In bfloat16 too the noise is that of diffusers, and the picture the same but for rounding: random
/// weights make much of it, eight bits of mantissa leave a few grey levels over two steps.
#[test]
fn in_bfloat16_the_picture_is_much_the_same() {
    let rt = Runtime { dtype: DtypeChoice::Bfloat16, ..cpu() };
    let request = GenerateRequest {
        prompts: vec![GOLDEN.cases()[0].prompts[0].clone()],
        seeds: vec![21],
        steps: Some(2),
        guidance_scale: Some(2.0),
        width: Some(16),
        height: Some(24),
        ..GenerateRequest::default()
    };
    let pipeline = StableDiffusion3::load(&GOLDEN.path("with_t5"), &rt).unwrap();
    GOLDEN.check_half(&pipeline, &request, "bfloat16.png", 4.0);
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
    let (ours, theirs) = (image::open(&out).unwrap().to_rgb8(), GOLDEN.picture("mini.png"));
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
