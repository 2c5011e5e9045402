//! BLIP against transformers: values made by tests/reference/blip.py. Checkpoint `a` is a `.bin` with
//! its own output matrix and the old preprocessor file, `b` is safetensors with a tied one.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::models::captioners::blip::Blip;
use toolkit::models::{CaptionOptions, Captioner};
use toolkit::runtime::{DtypeChoice, Runtime};

const RUNTIME: Runtime = Runtime { device: Device::Cpu, dtype: DtypeChoice::Auto, offline: true };

#[derive(Deserialize)]
struct Case {
    prompt: Option<String>,
    beams: usize,
    max_new_tokens: Option<usize>,
    texts: Vec<String>,
}

fn folder(name: &str) -> PathBuf {
    Path::new("tests/golden/blip").join(name)
}

fn pictures() -> Vec<RgbImage> {
    (0..3).map(|n| toolkit::images::load(format!("tests/golden/blip/{n}.png")).unwrap()).collect()
}

fn cases(name: &str) -> Vec<Case> {
    serde_json::from_str(&std::fs::read_to_string(folder(name).join("expected.json")).unwrap()).unwrap()
}

fn expected(name: &str, key: &str) -> Tensor {
    let file = folder(name).join("expected.safetensors");
    let weights = Checkpoint::open(&[file]).unwrap().weights(Device::Cpu, Kind::Float);
    weights.get(key, &weights.shape(key).unwrap()).unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

#[test]
fn pixels_are_the_reference_processors() {
    for name in ["a", "b"] {
        let model = Blip::load(&folder(name), &RUNTIME).unwrap();
        // The same filter on the same eight-bit pixels; only the last division may round otherwise.
        assert!(largest_difference(&model.pixels(&pictures()), &expected(name, "pixels")) < 1e-6, "{name}");
    }
}

#[test]
fn picture_states_agree() {
    for name in ["a", "b"] {
        let model = Blip::load(&folder(name), &RUNTIME).unwrap();
        let states = model.picture_states(&expected(name, "pixels"));
        // float32 sums in another order (fused attention).
        assert!(largest_difference(&states, &expected(name, "states")) < 1e-4, "{name}");
    }
}

#[test]
fn captions_are_equal_greedy_and_with_beams_alone_and_in_a_batch() {
    for name in ["a", "b"] {
        let model = Blip::load(&folder(name), &RUNTIME).unwrap();
        let pictures = pictures();
        for case in cases(name) {
            let options = CaptionOptions {
                prompt: case.prompt.clone(),
                max_new_tokens: case.max_new_tokens,
                num_beams: case.beams,
            };
            let about =
                format!("{name}, prompt {:?}, {} beams, {:?} tokens", case.prompt, case.beams, case.max_new_tokens);
            let texts =
                |captions: Vec<toolkit::models::Caption>| captions.into_iter().map(|c| c.text).collect::<Vec<_>>();
            assert_eq!(texts(model.caption(&pictures, &options).unwrap()), case.texts, "{about}");
            let alone = model.caption(&pictures[1..2], &options).unwrap();
            assert_eq!(texts(alone), case.texts[1..2], "{about}, alone");
        }
    }
}

#[test]
fn another_models_weights_are_refused_in_one_line() {
    let folder_a = folder("a");
    let mixed = tempfile::tempdir().unwrap();
    for file in ["config.json", "preprocessor_config.json", "vocab.txt"] {
        std::fs::copy(folder_a.join(file), mixed.path().join(file)).unwrap();
    }
    std::fs::copy(folder("b").join("model.safetensors"), mixed.path().join("model.safetensors")).unwrap();
    let error = format!("{:#}", Blip::load(mixed.path(), &RUNTIME).err().unwrap());
    assert!(
        error.contains("model.safetensors")
            && error.contains("tensors have other shapes than its configuration asks for (")
            && !error.contains('\n'),
        "{error}"
    );
}
