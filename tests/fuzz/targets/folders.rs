//! Readers of folders: an input's head names the file that it stands for; every other file is sound.

use std::fs;
use std::path::Path;

use anyhow::Result;
use tch::{Device, Kind};
use toolkit::checkpoints::{Checkpoint, config};
use toolkit::models::TextTokenizer;
use toolkit::models::captioners::blip::Blip;
use toolkit::models::captioners::phi4_multimodal::Phi4Multimodal;
use toolkit::models::captioners::phi4_multimodal::prompt::Prompt;
use toolkit::models::diffusion::stable_diffusion::StableDiffusion;
use toolkit::models::diffusion::stable_diffusion::safety_checker::SafetyChecker;
use toolkit::models::diffusion::stable_diffusion_3::StableDiffusion3;
use toolkit::models::metric_nets::clip::Clip;
use toolkit::models::metric_nets::dinov2::Dinov2;
use toolkit::report;
use toolkit::runtime::{DtypeChoice, Runtime};

use super::{Reader, head, repository, scratch, seeds};

const TEXT: &str = "A cat, 2 dogs &\u{a0}naïve ﬁsh 猫\u{301}!</s><|endoftext|>";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Puts the rest of the input in the place of the file that its head names, and reads the folder of that name.
fn with_file(root: &Path, input: &[u8], read: impl FnOnce(&str, &Path, &str)) {
    let Some((name, rest)) = head(input) else { return };
    let Some((folder, file)) = name.split_once('/') else { return };
    let path = root.join(name);
    if name.contains("..") || !path.is_file() {
        return;
    }
    let sound = fs::read(&path).unwrap();
    fs::write(&path, rest).unwrap();
    read(folder, &root.join(folder), file);
    fs::write(&path, sound).unwrap();
}

/// Model folders with all their weights.
pub fn models() -> Reader {
    let dir = scratch();
    for (name, golden) in seeds::MODEL_FOLDERS {
        copy(&repository(golden), &dir.path().join(name));
    }
    fs::copy(repository("tests/golden/phi4/a/tokenizer.json"), dir.path().join("phi4/tokenizer.json")).unwrap();
    let rt = Runtime { device: Device::Cpu, dtype: DtypeChoice::Float32, offline: true };
    Box::new(move |input| {
        with_file(dir.path(), input, |family, folder, file| match family {
            "blip" => drop(Blip::load(folder, &rt)),
            "phi4" => drop(Phi4Multimodal::load(folder, &rt)),
            "sd15" if file.starts_with("safety_checker") || file.starts_with("feature_extractor") => {
                drop(checker(folder));
            }
            "sd15" => drop(StableDiffusion::load(folder, &rt)),
            "clip" => drop(Clip::load(folder, rt.device, Kind::Float)),
            "dinov2" => drop(Dinov2::load(folder, rt.device, Kind::Float)),
            _ => drop(StableDiffusion3::load(folder, &rt)),
        });
    })
}

fn checker(folder: &Path) -> Result<SafetyChecker> {
    let own = folder.join("safety_checker");
    let config = config::read(&own.join("config.json"))?;
    let weights = Checkpoint::open_dir(&own, "model")?.weights(Device::Cpu, Kind::Float);
    SafetyChecker::new(&weights, &config, &folder.join("feature_extractor"))
}

/// Folders of tokenizers, with which a text is encoded.
pub fn tokenizers() -> Reader {
    let dir = scratch();
    for (name, golden) in seeds::TOKENIZER_FILES {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(repository(golden), path).unwrap();
    }
    Box::new(move |input| {
        with_file(dir.path(), input, |family, folder, _| {
            let encoded = match family {
                "phi4" => return drop(Prompt::of_folder(folder, None).and_then(|prompt| prompt.encode(TEXT))),
                "t5" | "t5_json" => TextTokenizer::t5(folder, 16),
                _ => TextTokenizer::clip(folder, 16),
            };
            let _ = encoded.and_then(|tokenizer| tokenizer.encode(TEXT));
        });
    })
}

/// Run folders, of which the page is made.
pub fn runs() -> Reader {
    let dir = scratch();
    for (name, bytes) in seeds::run_files() {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    Box::new(move |input| {
        with_file(dir.path(), input, |_, folder, _| {
            let _ = report::page(folder);
        });
    })
}
