//! Finding and checking models: the table, the caches.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use toolkit::models::captioners::{blip, phi4_multimodal};
use toolkit::models::diffusion::stable_diffusion::{controlnet, ip_adapter};
use toolkit::models::diffusion::{lora, stable_diffusion, stable_diffusion_3};
use toolkit::models::{self, FAMILIES, MODELS, ModelSource};
use toolkit::runtime::{DtypeChoice, Runtime};

const RT: Runtime = Runtime { device: tch::Device::Cpu, dtype: DtypeChoice::Auto, offline: true };

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program with caches in `home` and nothing else.
fn toolkit(home: &Path) -> Command {
    let mut command = Command::cargo_bin("toolkit").unwrap();
    for name in ["HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TORCH_HOME", "XDG_CACHE_HOME"]
    {
        command.env_remove(name);
    }
    command.env("HOME", home).env("TMPDIR", home).env("TOOLKIT_HOME", root());
    command
}

fn output(command: &mut Command, status: i32) -> (String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    (out, err)
}

#[test]
fn the_table_is_sound() {
    for (i, entry) in MODELS.iter().enumerate() {
        assert!(MODELS[..i].iter().all(|other| other.name != entry.name), "{} is there twice", entry.name);
        assert!(!entry.about.is_empty());
        match entry.source {
            ModelSource::Embedded(_) => {
                // The family that the table says is the one that the files say.
                let located = models::locate(entry.name, &RT).unwrap();
                assert_eq!(models::family_of(&located.path).unwrap(), entry.family, "{}", entry.name);
            }
            ModelSource::Torch { file, url } => assert!(url.ends_with(file)),
            ModelSource::Hub(id) | ModelSource::HubFile { repo: id, .. } => assert_eq!(id.split('/').count(), 2),
        }
    }
    for name in [
        "blip-base",
        "blip-large",
        "phi-4-multimodal",
        "sd3-medium",
        "sd3.5-medium",
        "sd3.5-large",
        "sd-v1-5",
        "art-inception",
        "inception-v3",
        "lpips-alex",
    ] {
        assert_eq!(models::find(name).unwrap().name, name);
    }
}

/// No two families share what tells them, and each can be asked for by a name.
#[test]
fn each_family_is_told_by_what_it_alone_has() {
    for (i, family) in FAMILIES.iter().enumerate() {
        assert!(MODELS.iter().any(|entry| entry.family == *family), "{} has no name", family.title);
        let names = [family.pipeline_classes, family.model_types, family.tensors];
        assert!(names.iter().any(|names| !names.is_empty()), "{} cannot be told", family.title);
        for other in &FAMILIES[..i] {
            assert_ne!(family.title, other.title);
            // Tensors may be shared: `is_file` then looks further.
            for (own, theirs) in names.iter().zip([other.pipeline_classes, other.model_types]) {
                assert!(own.iter().all(|name| !theirs.contains(name)), "{} and {}", family.title, other.title);
            }
        }
    }
    assert!(MODELS.iter().all(|entry| FAMILIES.contains(&entry.family)));
}

#[test]
fn metric_files_are_found_by_their_tensors() {
    let mini = root().join("experiments/mini/models");
    let inception = models::locate_inception("mini-art-inception", &RT).unwrap();
    assert_eq!(inception, mini.join("mini-art-inception/art_inception.pth"));
    let lpips = models::locate_lpips("mini-lpips", "mini-lpips", &RT).unwrap();
    assert_eq!(lpips.backbone, mini.join("mini-lpips/alexnet.pth"));
    assert_eq!(lpips.linear, mini.join("mini-lpips/alex.pth"));
    // The published heads are part of the repository, with any trunk.
    let lpips = models::locate_lpips(lpips.backbone.to_str().unwrap(), "lpips-alex", &RT).unwrap();
    assert_eq!(lpips.linear, root().join("assets/lpips/alex.pth"));
    let wrong = models::locate_inception("mini-lpips", &RT).unwrap_err().to_string();
    assert!(wrong.contains("mini-lpips is a metric net LPIPS, not a metric net art-Inception"), "{wrong}");
    let swapped = models::locate_lpips(lpips.linear.to_str().unwrap(), "mini-lpips", &RT).unwrap_err().to_string();
    assert!(swapped.contains("no tensor features.0.weight here"), "{swapped}");
}

#[test]
fn the_family_is_read_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    for (text, family) in [
        (r#"{"model_type": "blip"}"#, &blip::FAMILY),
        (r#"{"model_type": "phi4mm"}"#, &phi4_multimodal::FAMILY),
        (r#"{"model_type": "phi4_multimodal"}"#, &phi4_multimodal::FAMILY),
    ] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(models::family_of(dir.path()).unwrap(), family);
    }
    let error = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let error = toolkit::runtime::one_line(&models::family_of(dir.path()).unwrap_err());
        assert!(error.contains(file.to_str().unwrap()), "{error}");
        error
    };
    assert!(error(r#"{"model_type": "llama"}"#).contains("\"llama\" is not a family known here (blip, phi4mm"));
    assert!(error("{}").contains("no model_type"));
    assert!(error("{").contains("not valid JSON"));
    let index = dir.path().join("model_index.json");
    std::fs::write(&index, r#"{"_class_name": "StableDiffusion3Pipeline"}"#).unwrap();
    assert_eq!(models::family_of(dir.path()).unwrap(), &stable_diffusion_3::FAMILY);
    std::fs::write(&index, r#"{"_class_name": "StableDiffusionPipeline"}"#).unwrap();
    assert_eq!(models::family_of(dir.path()).unwrap(), &stable_diffusion::FAMILY);
}

#[test]
fn a_wrong_name_suggests_the_nearest() {
    let home = tempfile::tempdir().unwrap();
    let (_, error) = output(toolkit(home.path()).args(["models", "path", "mini-sd"]), 2);
    assert!(error.contains("\"mini-sd\", did you mean \"mini-sd3\"?"), "{error}");
    let (_, error) = output(toolkit(home.path()).args(["models", "path", "zebra"]), 2);
    assert!(error.contains("`toolkit models list` shows the names"), "{error}");
    let heads = root().join("assets/lpips/alex.pth");
    let error = models::load_captioner(heads.to_str().unwrap(), &RT).err().unwrap();
    assert!(error.downcast_ref::<toolkit::error::UsageError>().is_some());
    assert!(error.to_string().contains("does not describe pictures: use one of blip-base"), "{error}");
}

#[test]
fn a_name_of_another_task_is_refused_before_it_is_downloaded() {
    let message = |error: anyhow::Error| error.to_string();
    let refused = |found: Result<models::Located, anyhow::Error>, words: &str| {
        let error = found.err().unwrap();
        assert!(error.is::<toolkit::error::UsageError>() && message(error).contains(words), "{words}");
    };
    refused(models::locate_captioner("sd3-medium", &RT), "sd3-medium is a Stable Diffusion 3 generator, it does not");
    refused(models::locate_generator("blip-large", &RT), "it does not draw pictures: use one of sd3-medium");
    let error = message(models::locate_inception("phi-4-multimodal", &RT).unwrap_err());
    assert!(error.contains("not a metric net art-Inception"), "{error}");
}

#[test]
fn nothing_is_downloaded_offline() {
    let home = tempfile::tempdir().unwrap();
    for name in ["blip-base", "art-inception", "lpips-alex", "owner/name"] {
        let mut pull = toolkit(home.path());
        // Nobody listens there: an attempt would be another error.
        pull.env("HF_ENDPOINT", "http://127.0.0.1:9").args(["models", "pull", name, "--offline"]);
        let (_, error) = output(&mut pull, 1);
        assert!(error.contains("network"), "{error}");
        assert_eq!(error.trim().lines().count(), 1, "{error}");
    }
    let mut pull = toolkit(home.path());
    pull.env("HF_ENDPOINT", "http://127.0.0.1:9").args(["models", "pull", "owner/name"]);
    let (_, error) = output(&mut pull, 1);
    assert!(error.contains("the hub cannot be reached"), "{error}");
}

#[test]
fn verify_says_what_was_checked() {
    let home = tempfile::tempdir().unwrap();
    let (out, _) = output(toolkit(home.path()).args(["models", "verify", "mini-lpips"]), 0);
    assert!(out.contains("alexnet.pth: ") && out.contains("all finite"), "{out}");

    // A file of torch's cache that is not what its name says.
    let cache = home.path().join(".cache/torch/hub/checkpoints");
    std::fs::create_dir_all(&cache).unwrap();
    let fake = cache.join("alexnet-owt-7be5be79.pth");
    std::fs::copy(root().join("experiments/mini/models/mini-lpips/alexnet.pth"), &fake).unwrap();
    let (out, _) = output(toolkit(home.path()).args(["models", "path", "lpips-alex"]), 0);
    assert_eq!(out.trim(), fake.to_str().unwrap());
    let (_, error) = output(toolkit(home.path()).args(["models", "verify", "lpips-alex"]), 1);
    assert!(error.contains("it should be 7be5be79: a broken download?"), "{error}");

    // A NaN anywhere is named.
    let tensor = tch::Tensor::from_slice(&[1.0f32, f32::NAN]);
    let file = home.path().join("x.safetensors");
    tch::Tensor::write_safetensors(&[("features.0.weight", &tensor)], &file).unwrap();
    let (_, error) = output(toolkit(home.path()).args(["models", "verify"]).arg(&file), 1);
    assert!(error.contains("x.safetensors: tensor features.0.weight holds NaN"), "{error}");
}

#[test]
fn the_list_knows_what_is_here() {
    let home = tempfile::tempdir().unwrap();
    let (out, _) = output(toolkit(home.path()).args(["models", "list", "--format", "json"]), 0);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.len(), MODELS.len());
    for (row, entry) in rows.iter().zip(MODELS) {
        assert_eq!(row["name"], entry.name);
        assert_eq!(row["path"].is_string(), matches!(entry.source, ModelSource::Embedded(_)), "{row}");
    }
    let (out, _) = output(toolkit(home.path()).args(["models", "list"]), 0);
    assert_eq!(out.lines().count(), MODELS.len());
    let (out, _) = output(toolkit(home.path()).args(["models", "list", "--format", "csv"]), 0);
    assert_eq!(out.lines().next(), Some("name,family,about,path"));
}

/// Adapters are told, found in the hub's cache by their ids, and looked at, without being named by any table.
#[test]
fn adapters_are_told_and_found_by_their_ids() {
    let golden = |name: &str| root().join("tests/golden").join(name);
    let net = "it lets a picture (edges, lines) steer a Stable Diffusion whose texts have 24 numbers a token:";
    let shown = "it lets a Stable Diffusion whose texts have 24 numbers a token draw after pictures, which it reads as";
    for (name, family, is_built, about) in [
        ("controlnet/like_v1", &controlnet::FAMILY, true, net.to_string()),
        ("controlnet/single.safetensors", &controlnet::FAMILY, false, net.to_string()),
        (
            "ip_adapter/models/ip-adapter_like_v1.safetensors",
            &ip_adapter::FAMILY,
            true,
            format!("{shown} 4 tokens of the"),
        ),
        ("ip_adapter/models/ip-adapter-plus_like_v1.safetensors", &ip_adapter::FAMILY, true, shown.to_string()),
        (
            "ip_adapter/models/ip-adapter-full-face_like_v1.bin",
            &ip_adapter::FAMILY,
            true,
            format!("{shown} a token for each"),
        ),
        ("lora/sd15_kohya.safetensors", &lora::FAMILY, false, "it changes".to_string()),
        ("lora/sd15_peft.safetensors", &lora::FAMILY, false, "it changes".to_string()),
        ("lora/sd15_processors.safetensors", &lora::FAMILY, false, "it changes".to_string()),
        ("lora/sd15_stabilised.safetensors", &lora::FAMILY, false, "it changes".to_string()),
        ("lora/sd15_trained.safetensors", &lora::FAMILY, false, "it changes".to_string()),
        ("lora/sd3_diffusers.safetensors", &lora::FAMILY, false, "it changes".to_string()),
    ] {
        let located = models::locate(golden(name).to_str().unwrap(), &RT).unwrap();
        assert_eq!(located.family, family, "{name}");
        let checked = models::verify_build(&located).unwrap();
        assert_eq!(checked.built, is_built, "{name}");
        assert!(checked.about.as_ref().is_some_and(|text| text.starts_with(&about)), "{name}: {:?}", checked.about);
        println!("{name}: {:?}", checked.about);
        assert!(models::verify_files(&located).unwrap()[0].tensors > 0);
    }
    let cache = tempfile::tempdir().unwrap();
    for (repository, file, source) in [
        ("net", "config.json", "controlnet/like_v1/config.json"),
        ("net", "diffusion_pytorch_model.safetensors", "controlnet/like_v1/diffusion_pytorch_model.safetensors"),
        ("ink", "pytorch_lora_weights.safetensors", "lora/sd15_kohya.safetensors"),
        ("many", "a/wash.safetensors", "lora/sd15_peft.safetensors"),
    ] {
        let folder = cache.path().join(format!("models--owner--{repository}"));
        let file = folder.join("snapshots/0123").join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::copy(golden(source), file).unwrap();
        std::fs::create_dir_all(folder.join("refs")).unwrap();
        std::fs::write(folder.join("refs/main"), "0123").unwrap();
    }
    for (name, expected) in [
        ("owner/net", "models--owner--net/snapshots/0123"),
        ("owner/ink@main", "models--owner--ink/snapshots/0123/pytorch_lora_weights.safetensors"),
        ("owner/many/a/wash.safetensors", "models--owner--many/snapshots/0123/a/wash.safetensors"),
    ] {
        let mut command = Command::cargo_bin("toolkit").unwrap();
        let output = command.args(["models", "path", name]).env("HF_HUB_CACHE", cache.path()).output().unwrap();
        let path = String::from_utf8_lossy(&output.stdout).trim_end().to_string();
        assert_eq!(path, cache.path().join(expected).display().to_string(), "{output:?}");
    }
}
