//! Pipelines in one file against the folders that they were made of (`tests/reference/single_file.py`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use image::RgbImage;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use toolkit::checkpoints::Checkpoint;
use toolkit::models::{GenerateRequest, load_generator, load_outline, load_token_budget};
use toolkit::runtime::{DtypeChoice, Runtime};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn cpu() -> Runtime {
    Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true }
}

/// From text, and from a photo, so that every part is used.
fn draw(model: &Path) -> anyhow::Result<Vec<RgbImage>> {
    let generator = load_generator(model.to_str().unwrap(), &cpu())?;
    let text = GenerateRequest {
        prompts: vec!["a young woman with long red hair".to_string()],
        seeds: vec![5],
        steps: Some(4),
        width: Some(48),
        height: Some(32),
        ..GenerateRequest::default()
    };
    let photo = RgbImage::from_fn(48, 32, |x, y| image::Rgb([(x * 5) as u8, (y * 7) as u8, (x * y) as u8]));
    let images = GenerateRequest { images: vec![photo], strength: Some(0.8), ..text.clone() };
    let drawn = [generator.generate(&text)?, generator.generate(&images)?].concat();
    Ok(drawn.into_iter().map(|picture| picture.image).collect())
}

/// A single file in a place of its own, with a folder beside it that has what `keep` takes of `folder`.
fn place(file: &str, folder: &str, keep: impl Fn(&str) -> bool) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let single = dir.path().join(Path::new(file).file_name().unwrap());
    symlink(golden(file), &single).unwrap();
    copy(&golden(folder), &single.with_extension("config"), "", &keep);
    (dir, single)
}

fn copy(from: &Path, to: &Path, inside: &str, keep: &impl Fn(&str) -> bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let relative = format!("{inside}{name}");
        if path.is_dir() {
            copy(&path, &to.join(name), &format!("{relative}/"), keep);
        } else if keep(&relative) {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn no_weights(name: &str) -> bool {
    !name.ends_with(".safetensors")
}

/// To the last bit: the same tensors in the same order of sums.
#[test]
fn file_and_folder_draw_the_same_picture() {
    for (file, folder) in [("like_v1.ckpt", "sd15/like_v1"), ("with_t5.safetensors", "sd3/with_t5")] {
        let (_dir, single) = place(&format!("single_file/{file}"), folder, no_weights);
        assert_eq!(draw(&single).unwrap(), draw(&golden(folder)).unwrap(), "{file}");
    }
    // Text encoders that are not in the file come from the folder beside it.
    let others = |name: &str| no_weights(name) || name.starts_with("text_encoder");
    for name in ["like_sd35", "like_sd35_large"] {
        let (_dir, single) = place(&format!("single_file/{name}.safetensors"), &format!("sd3/{name}"), others);
        assert_eq!(draw(&single).unwrap(), draw(&golden(&format!("sd3/{name}"))).unwrap(), "{name}");
    }
}

/// Which of the published sizes a file has (layers, second attentions, norms) is told by its tensors: without the transformer's
/// configuration it draws the same, but for the size where none is asked for.
#[test]
fn the_transformers_sizes_are_those_of_the_file() {
    for name in ["like_sd35", "like_sd35_large"] {
        let (with, without) = (no_weights, |name: &str| no_weights(name) && !name.starts_with("transformer"));
        let encoders = |name: &str| name.starts_with("text_encoder");
        let (file, folder) = (format!("single_file/{name}.safetensors"), format!("sd3/{name}"));
        let (_dir, known) = place(&file, &folder, |name| with(name) || encoders(name));
        let (_other, bare) = place(&file, &folder, |name| without(name) || encoders(name));
        let own = |file: &Path| load_outline(file.to_str().unwrap(), &cpu()).unwrap().own_size();
        assert!(own(&known) != own(&bare));
        let draw = |file: &Path| {
            let request = GenerateRequest {
                prompts: vec!["a cat".to_string()],
                seeds: vec![3],
                steps: Some(3),
                width: Some(16),
                height: Some(24),
                ..GenerateRequest::default()
            };
            load_generator(file.to_str().unwrap(), &cpu()).unwrap().generate(&request).unwrap().remove(0).image
        };
        assert!(draw(&known) == draw(&bare), "{name}");
    }
}

/// Three sizes of two layers, for which there is no folder: diffusers' picture within a grey level.
#[test]
fn a_file_draws_as_diffusers() {
    let generator = load_generator(golden("single_file/two_layers.safetensors").to_str().unwrap(), &cpu()).unwrap();
    let request = GenerateRequest {
        prompts: vec!["a young woman with long red hair, oil painting".to_string()],
        seeds: vec![11],
        steps: Some(6),
        ..GenerateRequest::default()
    };
    let ours = generator.generate(&request).unwrap().remove(0).image;
    let theirs = image::open(golden("single_file/two_layers.png")).unwrap().to_rgb8();
    assert_eq!(ours.dimensions(), theirs.dimensions());
    let apart = ours.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(apart <= 1, "{apart} grey levels");
    let levels = theirs.as_raw().iter().max().unwrap() - theirs.as_raw().iter().min().unwrap();
    assert!(levels > 100, "a picture with something on it");
}

/// T5 in the file counts only where its tokenizer is found, in any of the places.
#[test]
fn t5_needs_its_tokenizer() {
    let without = |name: &str| no_weights(name) && !name.starts_with("tokenizer_3");
    let (dir, single) = place("single_file/with_t5.safetensors", "sd3/with_t5", without);
    let (whole, alone) = (draw(&golden("sd3/with_t5")).unwrap(), draw(&single).unwrap());
    assert!(whole[0] != alone[0], "T5 makes a difference");
    fs::copy(golden("sd3/with_t5/tokenizer_3/spiece.model"), dir.path().join("spiece.model")).unwrap();
    assert_eq!(draw(&single).unwrap(), whole);
}

/// A file with some tensors changed or left out.
fn rewrite(file: &Path, to: &Path, change: &dyn Fn(&str, Tensor) -> Option<Tensor>) {
    let tensors = Tensor::read_safetensors(file).unwrap();
    let kept = tensors.into_iter().filter_map(|(name, tensor)| Some((name.clone(), change(&name, tensor)?)));
    Tensor::write_safetensors(&kept.collect::<Vec<_>>(), to).unwrap();
}

/// Where the smaller encoder's projection is left out, it is the identity.
#[test]
fn a_projection_that_is_left_out_changes_nothing() {
    let (dir, single) = place("single_file/with_t5.safetensors", "sd3/with_t5", no_weights);
    let projection = |name: &str| name.ends_with("text_projection.weight") && !name.contains("clip_g");
    let folder = dir.path().join("folder");
    copy(&golden("sd3/with_t5"), &folder, "", &|_| true);
    let eye = |name: &str, tensor: Tensor| {
        Some(if projection(name) { Tensor::eye(tensor.size()[0], (tensor.kind(), Device::Cpu)) } else { tensor })
    };
    let encoder = "text_encoder/model.safetensors";
    rewrite(&golden("sd3/with_t5").join(encoder), &folder.join(encoder), &eye);
    fs::remove_file(&single).unwrap();
    let left_out = |name: &str, tensor: Tensor| (!projection(name)).then_some(tensor);
    rewrite(&golden("single_file/with_t5.safetensors"), &single, &left_out);
    let drawn = draw(&single).unwrap();
    assert_eq!(drawn, draw(&folder).unwrap());
    assert!(drawn != draw(&golden("sd3/with_t5")).unwrap(), "the projection counts");
}

/// What a file lacks is said with what to do about it.
#[test]
fn what_is_missing_is_said() {
    let error = |name: &str| format!("{:#}", draw(&golden(name)).unwrap_err());
    let sizes = error("single_file/like_v1.ckpt");
    assert!(sizes.contains("published configuration") && sizes.contains("like_v1.config"), "{sizes}");
    // A transformer that reads what the published encoders give, which the file has not.
    let dir = tempfile::tempdir().unwrap();
    let single = dir.path().join("like_sd35.safetensors");
    let wide = |name: &str, tensor: Tensor| {
        let width = match name.trim_start_matches("model.diffusion_model.") {
            "context_embedder.weight" => 4096,
            "y_embedder.mlp.0.weight" => 2048,
            _ => return Some(tensor),
        };
        Some(Tensor::zeros([tensor.size()[0], width], (tensor.kind(), Device::Cpu)))
    };
    rewrite(&golden("single_file/like_sd35.safetensors"), &single, &wide);
    let encoders = format!("{:#}", draw(&single).unwrap_err());
    assert!(encoders.contains("sd3_medium_incl_clips.safetensors") && encoders.contains("text_encoder"), "{encoders}");
    // The published vocabulary is there without any folder.
    let budget = load_token_budget(golden("single_file/like_v1.ckpt").to_str().unwrap(), &cpu()).unwrap();
    assert_eq!((budget.count("a photo of a cat").unwrap(), budget.limit()), (7, 77));
}

#[test]
fn a_file_is_verified_and_stylizes() {
    let (dir, single) = place("single_file/like_v1.ckpt", "sd15/like_v1", no_weights);
    let toolkit = |args: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("toolkit").unwrap();
        command.args(["--device", "cpu", "--offline"]).args(args).assert().success()
    };
    let verified = toolkit(&["models", "verify", single.to_str().unwrap()]);
    let text = String::from_utf8(verified.get_output().stdout.clone()).unwrap();
    assert!(text.contains("Stable Diffusion generator") && text.contains("the model builds"), "{text}");
    let out = dir.path().join("out.png").display().to_string();
    let model = ["stylize", "--model", single.to_str().unwrap(), "--prompt", "a cat", "--steps", "4", "--out", &out];
    toolkit(&model);
    let own = fs::read(&out).unwrap();
    toolkit(&[&model[..], &["--scheduler", "dpmsolver++"]].concat());
    assert!(own != fs::read(&out).unwrap(), "another solver draws another picture");
}

/// T5 is published in eight bits, too.
#[test]
fn numbers_of_eight_bits_are_read() {
    let checkpoint = Checkpoint::open(&[golden("single_file/float8.safetensors")]).unwrap();
    for name in ["e4m3", "e5m2"] {
        let read = |name: &str| checkpoint.read(name, Device::Cpu, Kind::Float).unwrap();
        let expected = read(&format!("{name}.float"));
        assert_eq!(read(name), expected);
        let half = checkpoint.read(name, Device::Cpu, Kind::BFloat16).unwrap();
        assert_eq!(half, expected.to_kind(Kind::BFloat16));
    }
}
