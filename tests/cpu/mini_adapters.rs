//! The trained adapters of the mini generators: LoRA, ControlNet and IP-Adapter do to the little world what they are for.
//!
//! The bars are conservative versions of the figures in experiments/mini/README.md.

use crate::mini;

use std::path::PathBuf;

use image::RgbImage;
use mini::{cpu, mini, people, prompt};
use tch::{Kind, Tensor};
use toolkit::images::{self, ControlMap, canny};
use toolkit::metrics::image::features::FeatureNet;
use toolkit::metrics::image::networks::Network;
use toolkit::models::{ControlRequest, GenerateRequest, Generator, IpAdapterChoice, LoraChoice, load_generator};

/// The styles of the little world, and behind them the one that no generator saw.
const STYLES: [&str; 6] =
    ["photos", "styles/lorelei", "styles/open-peeps", "styles/pixel-art", "styles/notionists", NEW];
const NEW: &str = "styles/lorelei-neutral";
/// The trigger words of the LoRAs.
const TRIGGER: &str = "mask style";

fn pictures(folder: &str) -> Vec<PathBuf> {
    images::list(mini(folder)).unwrap()
}

fn model(name: &str) -> PathBuf {
    mini("models").join(name)
}

/// What is drawn of so many descriptions with this style text behind them.
fn request(count: usize, style: &str) -> GenerateRequest {
    let prompts: Vec<String> = people(count).iter().map(|person| prompt(person, style)).collect();
    GenerateRequest {
        prompts: prompts.iter().map(|text| text.trim_end_matches(", ").to_string()).collect(),
        seeds: (0..count as u64).collect(),
        guidance_scale: Some(3.0),
        steps: Some(10),
        width: Some(96),
        height: Some(96),
        ..GenerateRequest::default()
    }
}

fn draw(generator: &dyn Generator, request: &GenerateRequest) -> Vec<RgbImage> {
    generator.generate(request).unwrap().into_iter().map(|drawn| drawn.image).collect()
}

/// The style of a picture: that of the nearest known one, as mini-csd sees them.
struct Judge {
    csd: FeatureNet,
    /// Of [`KNOWN`] pictures of each style, one after the other.
    known: Tensor,
}

const KNOWN: usize = 32;

impl Judge {
    fn load() -> Self {
        let csd = FeatureNet::open(Network::Csd, Some("mini-csd"), &cpu()).unwrap();
        let files: Vec<PathBuf> =
            STYLES.iter().flat_map(|style| pictures(style).into_iter().rev().take(KNOWN)).collect();
        let known = unit(&csd.describe(&files, None).unwrap());
        Self { csd, known }
    }

    fn hits(&self, drawn: &[RgbImage], style: &str) -> usize {
        let seen = unit(&self.csd.features(drawn, 16).unwrap());
        let nearest: Vec<i64> = Vec::try_from(seen.matmul(&self.known.tr()).argmax(1, false)).unwrap();
        nearest.iter().filter(|at| STYLES[**at as usize / KNOWN] == style).count()
    }
}

fn unit(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    &x / x.norm_scalaropt_dim(2.0, [-1i64], true)
}

/// Mean distance in pixels between the edges of two pictures, each to the nearest of the other.
fn outline_error(drawn: &RgbImage, asked: &RgbImage) -> f64 {
    let edges = |picture: &RgbImage| -> Vec<(f64, f64)> {
        let lines = canny(picture, 100, 200);
        let places = lines.enumerate_pixels().filter(|(_, _, pixel)| pixel.0[0] > 0);
        places.map(|(x, y, _)| (f64::from(x), f64::from(y))).collect()
    };
    let (one, other) = (edges(drawn), edges(asked));
    let far = |from: &[(f64, f64)], to: &[(f64, f64)]| {
        let nearest = |(x, y): &(f64, f64)| to.iter().map(|(u, v)| (x - u).hypot(y - v)).fold(96.0, f64::min);
        from.iter().map(nearest).sum::<f64>() / from.len().max(1) as f64
    };
    (far(&one, &other) + far(&other, &one)) / 2.0
}

#[test]
fn the_controlnet_halves_the_outline_error() {
    let generator = load_generator("mini-sd-v1-5", &cpu()).unwrap();
    let (mut without, mut with) = (0.0, 0.0);
    for (folder, words) in
        [(STYLES[1], "ink comic style"), (STYLES[2], "Peanuts comic style"), (STYLES[4], "line sketch style")]
    {
        let asked: Vec<RgbImage> = pictures(folder)[..3].iter().map(|file| images::load(file).unwrap()).collect();
        let plain = GenerateRequest { prompts: vec![words.to_string(); asked.len()], ..request(asked.len(), words) };
        let control = ControlRequest {
            model: model("mini-controlnet-canny").display().to_string(),
            map: Some(ControlMap::Canny),
            images: asked.clone(),
            ..ControlRequest::default()
        };
        let steered = GenerateRequest { control: Some(control), ..plain.clone() };
        let error = |request: &GenerateRequest| -> f64 {
            draw(generator.as_ref(), request).iter().zip(&asked).map(|(drawn, asked)| outline_error(drawn, asked)).sum()
        };
        without += error(&plain) / 9.0;
        with += error(&steered) / 9.0;
    }
    println!("outline error in pixels: {without:.2} by words alone, {with:.2} with the ControlNet");
    assert!(with < without / 2.0, "{with} with the ControlNet, {without} without");
}

#[test]
fn the_ip_adapter_draws_in_the_style_of_its_pictures() {
    let (generator, judge) = (load_generator("mini-sd-v1-5", &cpu()).unwrap(), Judge::load());
    let (mut without, mut with, mut all) = (0, 0, 0);
    for style in [STYLES[1], STYLES[3], STYLES[4]] {
        let plain = request(4, "");
        let shown = IpAdapterChoice {
            file: model("mini-ip-adapter/ip-adapter_sd15.safetensors"),
            pictures: pictures(style)[..4].to_vec(),
            scale: 1.0,
        };
        let after = GenerateRequest { ip_adapter: Some(shown), ..plain.clone() };
        without += judge.hits(&draw(generator.as_ref(), &plain), style);
        with += judge.hits(&draw(generator.as_ref(), &after), style);
        all += plain.prompts.len();
    }
    println!("of {all} pictures in the style of the pictures shown: {with}, and {without} without the IP-Adapter");
    assert!(with * 10 >= all * 8 && without * 2 < all, "{with} of {all}, {without} without");
}

/// Words alone do not reach the style, the LoRA does.
fn lora_teaches(name: &str, lora: &str) {
    let (generator, judge) = (load_generator(name, &cpu()).unwrap(), Judge::load());
    let plain = GenerateRequest { steps: Some(16), ..request(8, TRIGGER) };
    let file = model(lora).join("pytorch_lora_weights.safetensors");
    let taught = GenerateRequest { loras: vec![LoraChoice { file, weight: 1.0 }], ..plain.clone() };
    let (without, with) =
        (judge.hits(&draw(generator.as_ref(), &plain), NEW), judge.hits(&draw(generator.as_ref(), &taught), NEW));
    println!("{name}: {without} of 8 pictures in the new style by words alone, {with} with the LoRA");
    // mini-sd3 blends its styles where it does not know the words, and some of that comes out near to the new one.
    assert!(with >= 7 && without <= 3, "{name}: {with} with the LoRA, {without} without");
}

#[test]
fn a_lora_teaches_sd15_a_style_that_it_never_saw() {
    lora_teaches("mini-sd-v1-5", "mini-lora-sd-v1-5");
}

#[test]
fn a_lora_teaches_sd3_a_style_that_it_never_saw() {
    lora_teaches("mini-sd3", "mini-lora-sd3");
}
