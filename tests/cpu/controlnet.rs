//! ControlNets against diffusers on a tiny random pipeline, and edges against OpenCV (`tests/reference/controlnet.py`).

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Device, Tensor};
use toolkit::error::UsageError;
use toolkit::images::{ControlMap, canny, lineart};
use toolkit::models::{ControlRequest, GenerateRequest, load_generator, load_outline};
use toolkit::runtime::{DtypeChoice, Runtime};

fn golden(file: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/controlnet").join(file)
}

fn json<T: DeserializeOwned>(file: &str) -> T {
    serde_json::from_slice(&std::fs::read(golden(file)).unwrap()).unwrap()
}

fn picture(name: &str) -> RgbImage {
    image::open(golden(name)).unwrap().to_rgb8()
}

#[derive(Deserialize)]
struct Edges {
    picture: String,
    low: i32,
    high: i32,
    edges: String,
}

#[test]
fn edges_are_those_of_opencv() {
    for case in json::<Vec<Edges>>("edges.json") {
        let ours = canny(&picture(&case.picture), case.low, case.high);
        assert!(ours == picture(&case.edges), "{}", case.edges);
    }
}

#[derive(Deserialize)]
struct Lines {
    picture: String,
    lines: String,
}

#[test]
fn lines_are_those_of_controlnet_aux() {
    for case in json::<Vec<Lines>>("lines.json") {
        assert!(lineart(&picture(&case.picture)) == picture(&case.lines), "{}", case.lines);
    }
}

#[derive(Deserialize)]
struct Case {
    net: String,
    prompts: Vec<String>,
    seeds: Vec<u64>,
    steps: usize,
    guidance_scale: f64,
    scale: f64,
    start: f64,
    end: f64,
    width: Option<usize>,
    height: Option<usize>,
    strength: Option<f64>,
    #[serde(default)]
    photos: Vec<String>,
    steering: Vec<String>,
    pictures: Vec<String>,
}

impl Case {
    fn request(&self) -> GenerateRequest {
        GenerateRequest {
            prompts: self.prompts.clone(),
            seeds: self.seeds.clone(),
            steps: Some(self.steps),
            guidance_scale: Some(self.guidance_scale),
            width: self.width,
            height: self.height,
            images: self.photos.iter().map(|name| picture(name)).collect(),
            strength: self.strength,
            control: Some(ControlRequest {
                model: golden(&self.net).display().to_string(),
                images: self.steering.iter().map(|name| picture(name)).collect(),
                scale: self.scale,
                start: self.start,
                end: self.end,
                ..ControlRequest::default()
            }),
            ..GenerateRequest::default()
        }
    }
}

fn cpu() -> Runtime {
    Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true }
}

fn pipeline(name: &str) -> String {
    golden("..").join(name).display().to_string()
}

/// The largest difference of two pictures, in grey levels.
fn apart(ours: &RgbImage, theirs: &RgbImage) -> u8 {
    assert_eq!(ours.dimensions(), theirs.dimensions());
    ours.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// From text and from a photo, scales from 0 to 1.5, a part of the steps, with and without guidance, colours in the other order,
/// and in one file of the original layout; all with one generator.
#[test]
fn pictures_are_those_of_diffusers() {
    let mut generator = load_generator(&pipeline("sd15/like_v1"), &cpu()).unwrap();
    for devices in [1, 2] {
        if devices == 2 {
            // Each steers its half of guidance.
            generator.share_guidance(Device::Cpu).unwrap();
        }
        for (number, case) in json::<Vec<Case>>("cases.json").iter().enumerate() {
            let drawn = generator.generate(&case.request()).unwrap();
            assert_eq!(drawn.len(), case.pictures.len());
            for (ours, theirs) in drawn.iter().zip(&case.pictures) {
                let apart = apart(&ours.image, &picture(theirs));
                println!("case {number}, {theirs}, {devices} devices: {apart}");
                assert!(apart <= 1, "case {number}, {theirs}, {devices} devices: {apart} grey levels");
            }
        }
    }
}

/// Each picture has its own steering, and pictures without any are what they were.
#[test]
fn a_batch_draws_what_each_draws_alone() {
    let generator = load_generator(&pipeline("sd15/like_v1"), &cpu()).unwrap();
    let request = json::<Vec<Case>>("cases.json")[1].request();
    let without = GenerateRequest { control: None, ..request.clone() };
    let draw = |request: &GenerateRequest| generator.generate(request).unwrap().into_iter().map(|drawn| drawn.image);
    let plain: Vec<RgbImage> = draw(&without).collect();
    let together = toolkit::pipelines::draw(generator.as_ref(), &request);
    for (i, batched) in together.into_iter().enumerate() {
        let control = request.control.clone().unwrap();
        let alone = GenerateRequest {
            prompts: vec![request.prompts[i].clone()],
            seeds: vec![request.seeds[i]],
            control: Some(ControlRequest { images: vec![control.images[i].clone()], ..control }),
            ..request.clone()
        };
        let alone = draw(&alone).next().unwrap();
        assert!(apart(&alone, &batched.unwrap().image) <= 1 && apart(&alone, &plain[i]) > 10);
    }
    assert!(draw(&without).eq(plain));
}

/// Edges and lines are those of the photo at the size that is drawn, whichever it has.
#[test]
fn what_is_read_is_computed_of_the_photo() {
    let generator = load_generator(&pipeline("sd15/like_v1"), &cpu()).unwrap();
    let case = &json::<Vec<Case>>("cases.json")[7];
    let photo = picture("../../../experiments/mini/photos/face-027.png");
    let sized = toolkit::images::resize(&photo, 48, 40, toolkit::images::Filter::Lanczos);
    for photos in [vec![], vec![photo.clone()]] {
        let steered = |map: Option<ControlMap>, image: RgbImage| {
            let request = case.request();
            let control = ControlRequest { map, images: vec![image], ..request.control.unwrap() };
            let strength = request.strength.filter(|_| !photos.is_empty());
            let (images, width, height) = (photos.clone(), Some(48), Some(40));
            let request = GenerateRequest { control: Some(control), images, strength, width, height, ..case.request() };
            generator.generate(&request).unwrap().remove(0).image
        };
        let given = ControlMap::ALL.map(|map| steered(None, map.of(&sized)));
        assert!(given[0] != given[1]);
        for (map, given) in ControlMap::ALL.into_iter().zip(given) {
            assert!(steered(Some(map), photo.clone()) == given, "{map}");
        }
    }
}

#[test]
fn what_cannot_be_drawn_is_said_before_anything_is_loaded() {
    let refused = |name: &str, change: &dyn Fn(&mut ControlRequest)| {
        let outline = load_outline(&pipeline(name), &cpu()).unwrap();
        let mut request = json::<Vec<Case>>("cases.json")[0].request();
        change(request.control.as_mut().unwrap());
        let error = outline.check(&request).unwrap_err();
        assert!(error.downcast_ref::<UsageError>().is_some(), "{error:#}");
        format!("{error:#}")
    };
    let keep = |_: &mut ControlRequest| {};
    assert!(refused("sd3/with_t5", &keep).contains("takes no ControlNet here: use Stable Diffusion 1.5"));
    assert!(refused("sd15/other", &keep).contains("belongs to another U-Net"));
    assert!(refused("sd15/like_v1", &|control| control.model = "absent".to_string()).contains("no such ControlNet"));
    assert!(refused("sd15/like_v1", &|control| control.images.clear()).contains("one for each"));
    assert!(refused("sd15/like_v1", &|control| control.scale = f64::INFINITY).contains("not a number to work with"));
    assert!(refused("sd15/like_v1", &|control| control.start = 1.0).contains("a start below an end"));
    let file = golden("../lora/sd15_kohya.safetensors").display().to_string();
    let text = refused("sd15/like_v1", &|control| control.model = file.clone());
    assert!(text.contains("sd15_kohya.safetensors") && text.contains("no ControlNet in it"), "{text}");
}

/// A tensor that is missing or too many is named with its file.
#[test]
fn weights_are_all_there_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = Tensor::read_safetensors(golden("single.safetensors")).unwrap();
    tensors.retain(|(name, _)| name != "control_model.zero_convs.1.0.weight");
    tensors.push(("control_model.more.weight".to_string(), Tensor::from(1f32)));
    let file = folder.path().join("changed.safetensors");
    Tensor::write_safetensors(&tensors, &file).unwrap();
    let generator = load_generator(&pipeline("sd15/like_v1"), &cpu()).unwrap();
    let mut request = json::<Vec<Case>>("cases.json")[0].request();
    request.control.as_mut().unwrap().model = file.display().to_string();
    let text = format!("{:#}", generator.generate(&request).unwrap_err());
    for words in ["changed.safetensors", "controlnet_down_blocks.1.weight is missing", "more.weight"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
