//! Folders as today's transformers and diffusers save them again (tests/reference/resaved.py) say the same as those that
//! they were made from, whose values are the reference libraries'.

use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use tch::Device;
use toolkit::models::captioners::blip::Blip;
use toolkit::models::captioners::phi4_multimodal::Phi4Multimodal;
use toolkit::models::diffusion::stable_diffusion::StableDiffusion;
use toolkit::models::diffusion::stable_diffusion_3::StableDiffusion3;
use toolkit::models::{Caption, CaptionOptions, Captioner, GenerateRequest, Generator};
use toolkit::runtime::{DtypeChoice, Runtime};

const RUNTIME: Runtime = Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true };

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn is_weights(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors" || extension == "bin")
}

fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target, wanted);
        } else if wanted(&path) {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// What was saved again, with the weights of `original` where they were not stored a second time.
fn resaved(name: &str, original: &Path) -> tempfile::TempDir {
    let (folder, saved) = (tempfile::tempdir().unwrap(), golden("resaved").join(name));
    copy(&saved, folder.path(), &|_| true);
    let is_missing = |path: &Path| {
        let part = saved.join(path.parent().unwrap().strip_prefix(original).unwrap());
        let stored = fs::read_dir(&part).is_ok_and(|mut files| files.any(|file| is_weights(&file.unwrap().path())));
        let is_model = !path.ends_with("expected.safetensors");
        is_weights(path) && !stored && is_model
    };
    copy(original, folder.path(), &is_missing);
    folder
}

fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(97, 61, |x, y| image::Rgb([(x * 2 + seed * 40) as u8, (y * 4) as u8, (x * y / 9 + seed) as u8]))
}

fn captions(model: &dyn Captioner) -> Vec<Caption> {
    let options = CaptionOptions { prompt: None, max_new_tokens: Some(12), num_beams: 2 };
    model.caption(&[picture(0), picture(1), picture(5)], &options).unwrap()
}

#[test]
fn blip() {
    for case in ["a", "b"] {
        let original = golden("blip").join(case);
        let folder = resaved(&format!("blip_{case}"), &original);
        assert!(!folder.path().join("preprocessor_config.json").exists() && !folder.path().join("vocab.txt").exists());
        let again = Blip::load(folder.path(), &RUNTIME).unwrap();
        let before = Blip::load(&original, &RUNTIME).unwrap();
        assert_eq!(captions(&again), captions(&before), "{case}");
        assert!(again.pixels(&[picture(2)]).equal(&before.pixels(&[picture(2)])), "{case}");
    }
}

/// A file that says how pictures are prepared counts before one of its own, as in transformers 5.
#[test]
fn the_section_of_a_processor_counts_first() {
    let original = golden("blip/a");
    let folder = resaved("blip_a", &original);
    let other = r#"{"size": {"height": 64, "width": 64}, "image_std": [1.0, 1.0, 1.0]}"#;
    fs::write(folder.path().join("preprocessor_config.json"), other).unwrap();
    let pixels = |folder: &Path| Blip::load(folder, &RUNTIME).unwrap().pixels(&[picture(0)]);
    assert!(pixels(folder.path()).equal(&pixels(&original)));
    fs::write(folder.path().join("processor_config.json"), r#"{"processor_class": "BlipProcessor"}"#).unwrap();
    assert!(!pixels(folder.path()).equal(&pixels(&original)));
    for name in ["processor_config.json", "preprocessor_config.json"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let error = format!("{:#}", Blip::load(folder.path(), &RUNTIME).err().unwrap());
    assert!(error.contains("neither preprocessor_config.json nor processor_config.json"), "{error}");
}

#[test]
fn phi4_multimodal() {
    for case in ["a", "b"] {
        let original = golden("phi4").join(case).join("native");
        let folder = resaved(&format!("phi4_{case}"), &original);
        let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
        assert!(config.contains("\"type\"") && config.contains("\"rope_type\""), "both names");
        copy(&original.join("vision-lora"), &folder.path().join("vision-lora"), &|_| true);
        let before = tempfile::tempdir().unwrap();
        copy(&original, before.path(), &|_| true);
        let tokenizer = golden("phi4").join(case).join("tokenizer.json");
        let model = |folder: &Path| {
            fs::copy(&tokenizer, folder.join("tokenizer.json")).unwrap();
            captions(&Phi4Multimodal::load(folder, &RUNTIME).unwrap())
        };
        assert_eq!(model(folder.path()), model(before.path()), "{case}");
    }
}

fn drawn(model: &dyn Generator, safety_checker: bool) -> Vec<RgbImage> {
    let request = GenerateRequest {
        prompts: vec!["a cat's hat, (red)".to_string(), "two dogs".to_string()],
        negative_prompt: Some("blue".to_string()),
        seeds: vec![3, 4],
        steps: Some(2),
        width: Some(32),
        height: Some(32),
        safety_checker,
        ..GenerateRequest::default()
    };
    model.generate(&request).unwrap().into_iter().map(|generated| generated.image).collect()
}

#[test]
fn stable_diffusion() {
    for (case, has_checker) in [("like_v1", true), ("other", false)] {
        let original = golden("sd15").join(case);
        let folder = resaved(&format!("sd15_{case}"), &original);
        let again = StableDiffusion::load(folder.path(), &RUNTIME).unwrap();
        let before = StableDiffusion::load(&original, &RUNTIME).unwrap();
        assert!(drawn(&again, false) == drawn(&before, false), "{case}");
        if has_checker {
            assert!(drawn(&again, true) == drawn(&before, true), "{case}, with the safety checker");
        }
    }
}

#[test]
fn stable_diffusion_3() {
    for case in ["with_t5", "without_t5"] {
        let original = golden("sd3").join(case);
        let folder = resaved(&format!("sd3_{case}"), &original);
        let again = StableDiffusion3::load(folder.path(), &RUNTIME).unwrap();
        let before = StableDiffusion3::load(&original, &RUNTIME).unwrap();
        assert!(drawn(&again, false) == drawn(&before, false), "{case}");
    }
}
