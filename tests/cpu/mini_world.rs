//! The trained mini family, end to end: what is described, drawn and measured must be *right*, not only
//! equal to the reference. A wrong scheduler, scale or tokenizer shows here at once.
//!
//! The bars are conservative versions of the figures in experiments/mini/README.md.

use crate::mini;

use std::collections::BTreeMap;

use image::RgbImage;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use toolkit::images::{self, Filter};
use toolkit::metrics::image::features::FeatureNet;
use toolkit::metrics::image::frechet::{Gaussian, distance};
use toolkit::metrics::image::lpips::LpipsNet;
use toolkit::models::{CaptionOptions, GenerateRequest, Generator, load_captioner, load_generator};

use mini::{Attributes, Person, cpu, hair, json, mini, people, photo, prompt, value};

/// `labels.json` of the mini art-Inception: the classes of its two heads.
#[derive(Deserialize)]
struct Labels {
    fc1: BTreeMap<String, Vec<String>>,
    fc2: serde_json::Map<String, serde_json::Value>,
}

/// Which of five facts about the person the text names rightly.
fn right(attributes: &Attributes, said: &str) -> [bool; 5] {
    let said = said.to_lowercase().replace([',', '.'], " ");
    let words: Vec<&str> = said.split_whitespace().collect();
    let said = words.join(" ");
    // A fact that is there is named, and no other in its place.
    let named = |name: &str, all: [&str; 2]| {
        let there = value(attributes, name);
        all.iter().all(|one| words.contains(one) == (*one == there))
    };
    [
        said.contains(&hair(attributes)),
        named("facial_hair", ["beard", "moustache"]),
        named("glasses", ["glasses", "sunglasses"]),
        words.contains(&value(attributes, "clothing")),
        said.contains(&format!("{} {}", value(attributes, "clothing_color"), value(attributes, "clothing"))),
    ]
}

#[test]
fn captioners_say_what_is_to_be_seen() {
    let people = people(12);
    let photos: Vec<RgbImage> = people.iter().map(photo).collect();
    let appearance =
        "Use a sentence to describe the person's appearance, including hairstyle, face shape, and clothing.";
    for (model, prompt) in [("mini-phi-4-multimodal", Some(appearance)), ("mini-blip", None)] {
        let captioner = load_captioner(model, &cpu()).unwrap();
        let options = CaptionOptions { prompt: prompt.map(str::to_string), max_new_tokens: None, num_beams: 1 };
        let captions = captioner.caption(&photos, &options).unwrap();
        let marks: Vec<bool> =
            people.iter().zip(&captions).flat_map(|(person, said)| right(&person.attributes, &said.text)).collect();
        let share = marks.iter().filter(|mark| **mark).count() as f64 / marks.len() as f64;
        println!("{model}: {share:.3} of {} facts are right", marks.len());
        let said: Vec<&str> = captions.iter().map(|caption| caption.text.as_str()).collect();
        assert!(share >= 0.95, "{model}: {share:.3} of the facts are right: {said:#?}");
    }
}

/// Another question gets another answer: shorter, longer.
#[test]
fn instructions_change_the_answer() {
    let captioner = load_captioner("mini-phi-4-multimodal", &cpu()).unwrap();
    let photo = photo(&people(1)[0]);
    let words = |prompt: &str| {
        let options = CaptionOptions { prompt: Some(prompt.into()), max_new_tokens: None, num_beams: 1 };
        captioner.caption(std::slice::from_ref(&photo), &options).unwrap()[0].text.split_whitespace().count()
    };
    let (short, long) = (words("Describe the image in one short sentence."), words("Describe the image."));
    assert!(short < 14 && long > 24, "{short} and {long} words");
}

/// The metric nets of the mini family.
struct Judges {
    inception: FeatureNet,
    lpips: LpipsNet,
    labels: Labels,
}

impl Judges {
    fn load() -> Self {
        let model = |file: &str| mini("models").join(file);
        Self {
            inception: FeatureNet::load(&model("mini-art-inception/art_inception.pth"), Device::Cpu, Kind::Float)
                .unwrap(),
            lpips: LpipsNet::load(
                &model("mini-lpips/alexnet.pth"),
                &model("mini-lpips/alex.pth"),
                Device::Cpu,
                Kind::Float,
            )
            .unwrap(),
            labels: json("models/mini-art-inception/labels.json"),
        }
    }

    fn features(&self, pictures: &[RgbImage]) -> Tensor {
        self.inception.features(pictures, 16).unwrap()
    }

    /// What the two heads see in each picture: the style, and a value of every attribute.
    fn seen(&self, pictures: &[RgbImage]) -> Vec<(String, BTreeMap<String, String>)> {
        let (styles, classes) = self.inception.classify(&self.features(pictures)).unwrap();
        let best = |logits: Tensor, names: &[String]| names[logits.argmax(0, false).int64_value(&[]) as usize].clone();
        let row = |i: i64| {
            let mut from = 0;
            let of_group = |(name, values): (&String, &serde_json::Value)| {
                let values: Vec<String> = serde_json::from_value(values.clone()).unwrap();
                let group = classes.get(i).narrow(0, from, values.len() as i64);
                from += values.len() as i64;
                (name.clone(), best(group, &values))
            };
            let attributes = self.labels.fc2.iter().map(of_group).collect();
            (best(styles.get(i), &self.labels.fc1["style"]), attributes)
        };
        (0..pictures.len() as i64).map(row).collect()
    }
}

/// As experiments compare pictures.
fn comparable(pictures: impl IntoIterator<Item = RgbImage>) -> Vec<RgbImage> {
    pictures.into_iter().map(|picture| images::resize(&picture, 224, 224, Filter::Bicubic)).collect()
}

fn style_pictures(style: &str) -> Vec<RgbImage> {
    let people: Vec<Person> = json(&format!("styles/{style}/attributes.json"));
    comparable(people.iter().map(|person| images::load(mini("styles").join(style).join(&person.file)).unwrap()))
}

fn draw(generator: &dyn Generator, prompts: Vec<String>, steps: usize) -> Vec<RgbImage> {
    let seeds = (0..prompts.len() as u64).collect();
    let request =
        GenerateRequest { prompts, seeds, steps: Some(steps), guidance_scale: Some(3.0), ..GenerateRequest::default() };
    generator.generate(&request).unwrap().into_iter().map(|drawn| drawn.image).collect()
}

/// The attributes that every style of the test shows, and a picture of 96 pixels leaves no doubt about.
const SHOWN: [&str; 2] = ["hair", "glasses"];

#[test]
fn generators_draw_whom_and_how_they_are_asked() {
    let judges = Judges::load();
    let people = people(5);
    for model in ["mini-sd3", "mini-sd-v1-5"] {
        let generator = load_generator(model, &cpu()).unwrap();
        let styles = [
            ("lorelei", "ink comic style"),
            ("open-peeps", "Peanuts comic style"),
            ("pixel-art", "pixel art style"),
            ("notionists", "line sketch style"),
        ];
        let (mut named, mut known, mut all) = (0, 0, 0);
        let asked: Vec<(&str, &Person)> =
            styles.iter().flat_map(|(name, _)| people.iter().map(move |person| (*name, person))).collect();
        let prompts = styles.iter().flat_map(|(_, text)| people.iter().map(|person| prompt(person, text))).collect();
        let pictures = comparable(draw(generator.as_ref(), prompts, 12));
        let seen = judges.seen(&pictures);
        for ((style, person), (seen_style, attributes)) in asked.iter().zip(&seen) {
            named += usize::from(style == seen_style);
            for name in SHOWN {
                // Lorelei has no hats.
                if (*style, value(&person.attributes, name)) != ("lorelei", "hat") {
                    known += usize::from(attributes[name] == value(&person.attributes, name));
                    all += 1;
                }
            }
        }
        println!("{model}: {named} of {} in the style asked for, {known} of {all} attributes", asked.len());
        assert!(named * 10 >= asked.len() * 9, "{model}: {named} of {} in the style asked for", asked.len());
        assert!(known * 10 >= all * 8, "{model}: {known} of {all} attributes as asked for");
    }
}

/// Image-to-image: the stronger, the further from the photo, and the closer to the style.
#[test]
fn strength_leads_from_the_photo_to_the_style() {
    let judges = Judges::load();
    let people = people(10);
    let photos: Vec<RgbImage> = people.iter().map(photo).collect();
    let content = comparable(photos.clone());
    let style = Gaussian::fit(&judges.features(&style_pictures("pixel-art"))).unwrap();
    let generator = load_generator("mini-sd-v1-5", &cpu()).unwrap();
    let measure = |strength: f64| {
        let request = GenerateRequest {
            prompts: people.iter().map(|person| prompt(person, "pixel art style")).collect(),
            seeds: (0..people.len() as u64).collect(),
            steps: Some(20),
            guidance_scale: Some(3.0),
            images: photos.clone(),
            strength: Some(strength),
            ..GenerateRequest::default()
        };
        let drawn = comparable(generator.generate(&request).unwrap().into_iter().map(|drawn| drawn.image));
        let far = judges.lpips.distances(&content, &drawn, 8).unwrap();
        let fid = distance(&style, &Gaussian::fit(&judges.features(&drawn)).unwrap()).unwrap();
        (far.iter().sum::<f64>() / far.len() as f64, fid)
    };
    let measured = [0.3, 0.6, 0.9].map(measure);
    println!("LPIPS and FID along strength: {measured:.3?}");
    for pair in measured.windows(2) {
        assert!(pair[1].0 > pair[0].0, "LPIPS and FID along strength: {measured:?}");
        assert!(pair[1].1 < pair[0].1, "LPIPS and FID along strength: {measured:?}");
    }
}
