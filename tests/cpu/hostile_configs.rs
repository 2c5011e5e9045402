//! Configurations that someone damaged or made to harm: each number of each file is replaced by ones that no network
//! has. Either the model loads, or one line names the file and the key.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tch::Device;
use toolkit::checkpoints::config;
use toolkit::models::captioners::blip::Blip;
use toolkit::models::captioners::phi4_multimodal::Phi4Multimodal;
use toolkit::models::diffusion::autoencoder_kl;
use toolkit::models::diffusion::stable_diffusion::StableDiffusion;
use toolkit::models::diffusion::stable_diffusion_3::StableDiffusion3;
use toolkit::models::{CaptionOptions, Captioner, GenerateRequest, Generator};
use toolkit::runtime::{DtypeChoice, Runtime, catch_panics, one_line};

const RUNTIME: Runtime = Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true };

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A copy in which weights are links.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            fs::copy(&path, &target).unwrap();
        } else {
            std::os::unix::fs::symlink(&path, &target).unwrap();
        }
    }
}

/// Every place of a number, as a JSON pointer.
fn numbers(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Number(_) => into.push(at),
        Value::Object(keys) => keys.iter().for_each(|(key, value)| numbers(value, format!("{at}/{key}"), into)),
        // The first of a list stands for all.
        Value::Array(values) => values.iter().take(1).for_each(|value| numbers(value, format!("{at}/0"), into)),
        _ => {}
    }
}

/// Replaces each number of `file` in a copy of `folder` and loads it again.
fn damage(folder: &Path, file: &str, load: &dyn Fn(&Path) -> anyhow::Result<()>) -> usize {
    let copied = tempfile::tempdir().unwrap();
    copy(folder, copied.path());
    let path = copied.path().join(file);
    let sound: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    load(copied.path()).unwrap();
    let mut places = Vec::new();
    numbers(&sound, String::new(), &mut places);
    let mut wrong = Vec::new();
    let hostile =
        [json!(0), json!(-1), json!(1u64 << 31), json!(1u64 << 53), json!(1e308), json!(7), json!("many"), json!([])];
    for place in &places {
        for value in &hostile {
            let mut damaged = sound.clone();
            *damaged.pointer_mut(place).unwrap() = value.clone();
            fs::write(&path, damaged.to_string()).unwrap();
            let start = Instant::now();
            let outcome = catch_panics(|| load(copied.path()));
            let about = format!("{file}{place} = {value}");
            assert!(start.elapsed() < Duration::from_secs(10), "{about} took {:?}", start.elapsed());
            let Err(error) = outcome else { continue };
            let line = one_line(&error);
            let key = place.split('/').rfind(|part| part.parse::<usize>().is_err()).unwrap();
            // Weights that do not fit the configuration are named by their file.
            let keys = place.split('/').filter(|part| part.parse::<usize>().is_err() && !part.is_empty());
            let is_named = keys.chain([file, ".safetensors"]).any(|name| line.contains(name));
            let is_absurd = value.is_string() || value.is_array() || value.as_f64().is_some_and(|value| value > 2e9);
            let is_absurd_named = line.contains(key) || line.contains("untagged enum");
            if line.contains("internal error") || !is_named || (is_absurd && !is_absurd_named) {
                wrong.push(format!("{about}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    places.len()
}

fn caption(model: &dyn Captioner) -> anyhow::Result<()> {
    let picture = image::RgbImage::from_pixel(20, 30, image::Rgb([200, 90, 20]));
    let options = CaptionOptions { prompt: None, max_new_tokens: Some(2), num_beams: 1 };
    model.caption(&[picture], &options).map(drop)
}

#[test]
fn blip() {
    let load = |folder: &Path| caption(&Blip::load(folder, &RUNTIME)?);
    let folder = golden("blip/b");
    let places: usize =
        ["config.json", "preprocessor_config.json"].map(|file| damage(&folder, file, &load)).into_iter().sum();
    assert!(places > 20, "{places}");
}

#[test]
fn phi4_multimodal() {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("phi4/a/native"), folder.path());
    fs::copy(golden("phi4/a/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let load = |folder: &Path| caption(&Phi4Multimodal::load(folder, &RUNTIME)?);
    for file in ["config.json", "preprocessor_config.json", "generation_config.json", "vision-lora/adapter_config.json"]
    {
        assert!(damage(folder.path(), file, &load) > 0, "{file}");
    }
}

fn draw(model: &dyn Generator) -> anyhow::Result<()> {
    let request = GenerateRequest {
        prompts: vec!["a cat".to_string()],
        seeds: vec![1],
        steps: Some(2),
        width: Some(16),
        height: Some(16),
        ..GenerateRequest::default()
    };
    model.generate(&request).map(drop)
}

#[test]
fn stable_diffusion() {
    let load = |folder: &Path| StableDiffusion::load(folder, &RUNTIME)?.build_checker();
    let folder = golden("sd15/like_v1");
    for file in ["unet/config.json", "vae/config.json", "text_encoder/config.json", "safety_checker/config.json"] {
        assert!(damage(&folder, file, &load) > 0, "{file}");
    }
    damage(&folder, "feature_extractor/preprocessor_config.json", &load);
    let load = |folder: &Path| draw(&StableDiffusion::load(folder, &RUNTIME)?);
    assert!(damage(&folder, "scheduler/scheduler_config.json", &load) > 3);
}

#[test]
fn stable_diffusion_3() {
    let load = |folder: &Path| StableDiffusion3::load(folder, &RUNTIME).map(drop);
    let folder = golden("sd3/with_t5");
    for file in [
        "transformer/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "text_encoder_2/config.json",
        "text_encoder_3/config.json",
    ] {
        assert!(damage(&folder, file, &load) > 0, "{file}");
    }
    let load = |folder: &Path| draw(&StableDiffusion3::load(folder, &RUNTIME)?);
    assert!(damage(&folder, "scheduler/scheduler_config.json", &load) > 1);
}

/// A list may be long where each of its numbers is sound: 1 << 68 is no factor.
#[test]
fn an_autoencoder_of_too_many_sizes() {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("sd3/with_t5"), folder.path());
    let path = folder.path().join("vae/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["block_out_channels"] = vec![16; 69].into();
    config["down_block_types"] = vec!["DownEncoderBlock2D"; 69].into();
    config["up_block_types"] = vec!["UpDecoderBlock2D"; 69].into();
    fs::write(&path, config.to_string()).unwrap();
    let sizes: autoencoder_kl::Config = config::read(&path).unwrap();
    assert!(sizes.scale_factor() > 0);
    let line = one_line(&catch_panics(|| StableDiffusion3::load(folder.path(), &RUNTIME).map(drop)).unwrap_err());
    assert!(line.contains("block_out_channels has 69 sizes"), "{line}");
}

/// The tokenizers crate panics over a table of replacements that is damaged.
#[test]
fn a_damaged_table_of_t5s_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("sd3/with_t5"), folder.path());
    let tokenizer = folder.path().join("tokenizer_3/tokenizer.json");
    let saved = golden("resaved/sd3_with_t5/tokenizer_3/tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(saved).unwrap()).unwrap();
    let table = BASE64_STANDARD.decode(json["normalizer"]["precompiled_charsmap"].as_str().unwrap()).unwrap();
    let mut refused = 0;
    for round in 0..30 {
        let mut damaged = table.clone();
        // Each round another part of the table, and of the length of its first half.
        let (start, length) = (round * table.len() / 30, table.len() / 30);
        damaged[start..start + length].fill(if round % 2 == 0 { 0xff } else { 0x7f });
        damaged.truncate(table.len() - round % 3 * 5);
        json["normalizer"]["precompiled_charsmap"] = json!(BASE64_STANDARD.encode(damaged));
        fs::write(&tokenizer, json.to_string()).unwrap();
        if let Err(error) = catch_panics(|| StableDiffusion3::load(folder.path(), &RUNTIME).map(drop)) {
            let line = one_line(&error);
            assert!(line.contains("tokenizer_3/tokenizer.json") && !line.contains("internal error"), "{line}");
            refused += 1;
        }
    }
    assert!(refused > 3, "{refused}");
}
