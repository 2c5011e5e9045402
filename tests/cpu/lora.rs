//! Low-rank adapters against diffusers and PEFT on tiny random pipelines (`tests/reference/lora.py`), and what is merged in
//! one strategy is gone in the next.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use tch::{Device, Tensor};
use toolkit::error::UsageError;
use toolkit::models::{GenerateRequest, Generator, LoraChoice, load_generator, load_outline};
use toolkit::runtime::{DtypeChoice, Runtime};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cpu(dtype: DtypeChoice) -> Runtime {
    Runtime { device: Device::Cpu, dtype, offline: true }
}

fn load(pipeline: &str) -> Box<dyn Generator> {
    load_as(pipeline, DtypeChoice::Float32)
}

fn load_as(pipeline: &str, dtype: DtypeChoice) -> Box<dyn Generator> {
    load_generator(golden().join(pipeline).to_str().unwrap(), &cpu(dtype)).unwrap()
}

fn lora(file: &str, weight: f64) -> LoraChoice {
    LoraChoice { file: golden().join("lora").join(file), weight }
}

#[derive(Deserialize)]
struct Case {
    pipeline: String,
    loras: Vec<(String, f64)>,
    prompt: String,
    seed: u64,
    steps: usize,
    guidance_scale: f64,
    width: Option<usize>,
    height: Option<usize>,
    photo: Option<String>,
    strength: Option<f64>,
    picture: String,
}

impl Case {
    fn request(&self) -> GenerateRequest {
        GenerateRequest {
            prompts: vec![self.prompt.clone()],
            seeds: vec![self.seed],
            steps: Some(self.steps),
            guidance_scale: Some(self.guidance_scale),
            width: self.width,
            height: self.height,
            images: self.photo.iter().map(|name| picture(name)).collect(),
            strength: self.strength,
            loras: self.loras.iter().map(|(file, weight)| lora(file, *weight)).collect(),
            ..GenerateRequest::default()
        }
    }
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(golden().join("lora/cases.json")).unwrap()).unwrap()
}

fn picture(name: &str) -> RgbImage {
    image::open(golden().join("lora").join(name)).unwrap().to_rgb8()
}

fn draw(generator: &dyn Generator, request: &GenerateRequest) -> RgbImage {
    generator.generate(request).unwrap().remove(0).image
}

/// The largest difference of two pictures, in grey levels.
fn apart(ours: &RgbImage, theirs: &RgbImage) -> u8 {
    assert_eq!(ours.dimensions(), theirs.dimensions());
    ours.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// Every layout, weights from below 0 to 1, several at once, from text and from a photo.
#[test]
fn pictures_are_those_of_diffusers() {
    for (number, case) in cases().iter().enumerate() {
        let mut generator = load(&case.pipeline);
        for devices in [1, 2] {
            let apart = apart(&draw(generator.as_ref(), &case.request()), &picture(&case.picture));
            println!("case {number}, {:?}, {devices} devices: {apart}", case.loras);
            assert!(apart <= 1, "case {number}, {:?}, {devices} devices: {apart} grey levels", case.loras);
            // What is merged goes into the weights of a device that comes later too.
            generator.share_guidance(Device::Cpu).unwrap();
        }
    }
}

/// One generator that draws with A, with none, with B and with none again draws what fresh ones draw, byte for byte.
#[test]
fn what_is_merged_leaves_nothing_behind() {
    for (pipeline, a, b, dtype) in [
        ("sd15/like_v1", "sd15_kohya.safetensors", "sd15_trained.safetensors", DtypeChoice::Float32),
        ("sd15/like_v1", "sd15_kohya_original.safetensors", "sd15_peft.safetensors", DtypeChoice::Bfloat16),
        ("sd3/with_t5", "sd3_kohya.safetensors", "sd3_peft.safetensors", DtypeChoice::Float32),
        (
            "sd3/like_sd35",
            "sd3_like_sd35_kohya.safetensors",
            "sd3_like_sd35_trained.safetensors",
            DtypeChoice::Bfloat16,
        ),
        ("sd3/with_t5", "sd3_kohya.safetensors", "sd3_peft.safetensors", DtypeChoice::Float8),
    ] {
        let cases = cases();
        let case = cases.iter().find(|case| case.pipeline == pipeline).unwrap();
        let one = load_as(pipeline, dtype);
        let with = |loras: &[LoraChoice]| GenerateRequest { loras: loras.to_vec(), steps: Some(2), ..case.request() };
        let (a, b) = (lora(a, 0.7), lora(b, 1.0));
        let fresh = |loras: &[LoraChoice]| draw(load_as(pipeline, dtype).as_ref(), &with(loras));
        let plain = fresh(&[]);
        for loras in [vec![a.clone()], vec![], vec![b.clone()], vec![], vec![a.clone(), b.clone()], vec![b], vec![a]] {
            let (ours, expected) = (draw(one.as_ref(), &with(&loras)), fresh(&loras));
            assert!(ours == expected, "{pipeline}: {loras:?} after others");
            assert_eq!(ours == plain, loras.is_empty(), "{pipeline}: {loras:?} changes the picture");
        }
    }
}

/// What is said of a file before anything is loaded.
fn refused(pipeline: &str, choice: LoraChoice) -> String {
    let outline = load_outline(golden().join(pipeline).to_str().unwrap(), &cpu(DtypeChoice::Float32)).unwrap();
    let request = GenerateRequest {
        prompts: vec!["a cat".to_string()],
        seeds: vec![1],
        loras: vec![choice],
        ..GenerateRequest::default()
    };
    let error = outline.check(&request).unwrap_err();
    assert!(error.downcast_ref::<UsageError>().is_some(), "{error:#}");
    let text = format!("{error:#}");
    assert!(!text.contains('\n'), "{text}");
    text
}

/// The adapters of a golden file with some tensors changed.
fn changed(
    file: &str,
    folder: &tempfile::TempDir,
    change: impl Fn(&str, Tensor) -> Vec<(String, Tensor)>,
) -> LoraChoice {
    let tensors = Tensor::read_safetensors(golden().join("lora").join(file)).unwrap();
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().flat_map(|(name, tensor)| change(&name, tensor)).collect();
    let path = folder.path().join("changed.safetensors");
    Tensor::write_safetensors(&tensors, &path).unwrap();
    LoraChoice { file: path, weight: 1.0 }
}

#[test]
fn a_file_for_another_family_is_said_so() {
    for (pipeline, file, words) in [
        (
            "sd3/with_t5",
            "sd15_kohya.safetensors",
            "a LoRA for Stable Diffusion 1 or 2, and Stable Diffusion 3 is to draw",
        ),
        (
            "sd3/with_t5",
            "sd15_peft.safetensors",
            "a LoRA for Stable Diffusion 1 or 2, and Stable Diffusion 3 is to draw",
        ),
        (
            "sd15/like_v1",
            "sd3_kohya.safetensors",
            "a LoRA for Stable Diffusion 3, and Stable Diffusion 1 or 2 is to draw",
        ),
        (
            "sd15/like_v1",
            "sd3_peft.safetensors",
            "a LoRA for Stable Diffusion 3, and Stable Diffusion 1 or 2 is to draw",
        ),
    ] {
        let text = refused(pipeline, lora(file, 1.0));
        assert!(text.contains(words) && text.contains(file), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let flux = changed("sd15_peft.safetensors", &folder, |name, tensor| {
        vec![(name.replace("unet.down_blocks", "transformer.single_transformer_blocks"), tensor)]
    });
    assert!(refused("sd15/like_v1", flux).contains("a LoRA for FLUX"));
}

#[test]
fn all_that_does_not_fit_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_";
    let choice = changed("sd15_kohya.safetensors", &folder, |name, tensor| {
        let name = name.to_string();
        if name == format!("{key}q.lora_down.weight") {
            return vec![
                (name.replace("to_q", "to_x"), tensor.copy()),
                (name.replace("to_q", "to_x").replace("down", "up"), tensor),
            ];
        }
        if name == format!("{key}k.lora_down.weight") {
            return vec![];
        }
        if name == format!("{key}v.lora_up.weight") {
            return vec![(name, Tensor::cat(&[&tensor, &tensor], 0))];
        }
        if name == format!("{key}out_0.lora_down.weight") {
            return vec![(name, tensor.narrow(0, 0, 3).contiguous())];
        }
        vec![(name, tensor)]
    });
    let text = refused("sd15/like_v1", choice);
    for words in [
        "changed.safetensors: ",
        "to_x.lora_down.weight",
        "whose other half (lora_down with lora_up, lora_A with lora_B) is missing",
        "to_k.lora_up.weight",
        "to_q.lora_up.weight",
        "to_v.lora_up.weight [16, 4] for unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v.weight, which asks for [8, rank]",
        "which are not of one rank",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn other_kinds_of_adapters_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (end, words) in [
        ("dora_scale", "DoRA"),
        ("hada_w1_a", "LoHa"),
        ("lokr_w1", "LoKr"),
        ("diff", "differences of whole weights"),
        ("lora_B.bias", "LoRA with biases"),
    ] {
        let choice = changed("sd15_kohya.safetensors", &folder, |name, tensor| {
            let other = name
                .strip_suffix("conv_in.lora_up.weight")
                .map(|start| (format!("{start}conv_in.{end}"), tensor.copy()));
            other.into_iter().chain([(name.to_string(), tensor)]).collect()
        });
        let text = refused("sd15/like_v1", choice);
        assert!(text.contains(words) && text.contains(&format!(".{end}")), "{text}");
    }
    let model =
        LoraChoice { file: golden().join("sd15/like_v1/unet/diffusion_pytorch_model.safetensors"), weight: 1.0 };
    assert!(refused("sd15/like_v1", model).contains("no low-rank adapters in it"));
    assert!(refused("sd15/like_v1", lora("absent.safetensors", 1.0)).contains("no such file"));
    assert!(refused("sd15/like_v1", lora("sd15_peft.safetensors", f64::NAN)).contains("not a number to work with"));
}

/// A damaged adapter names file and tensor, and the generator draws on without it.
#[test]
fn an_adapter_that_is_not_finite_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let choice = changed("sd15_peft.safetensors", &folder, |name, tensor| {
        let broken = name.ends_with("attn2.to_v.lora_B.weight");
        vec![(name.to_string(), if broken { tensor * f64::NAN } else { tensor })]
    });
    let (generator, case) = (load("sd15/like_v1"), &cases()[0]);
    let plain = GenerateRequest { loras: Vec::new(), ..case.request() };
    let before = draw(generator.as_ref(), &plain);
    let error = generator.generate(&GenerateRequest { loras: vec![choice], ..case.request() }).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("changed.safetensors: tensor unet.") && text.contains("NaN or infinity"), "{text}");
    assert!(draw(generator.as_ref(), &plain) == before, "what was merged before the fault is gone");
}
