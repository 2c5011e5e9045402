//! From a folder or file to the family of its network: told by what it holds, never by its name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::table::Family;
use crate::checkpoints::Checkpoint;
use crate::runtime;

/// The family of a folder, from `model_index.json` or `config.json`, or of a single checkpoint file,
/// from the names of its tensors.
pub fn family_of(path: &Path) -> Result<Family> {
    if path.is_file() {
        return family_of_file(path);
    }
    for (file, key, family) in [
        ("model_index.json", "_class_name", pipeline_family as fn(&str) -> Option<Family>),
        ("config.json", "model_type", model_type_family),
    ] {
        let file = path.join(file);
        if file.is_file() {
            let class = string_of(&file, key)?;
            return family(&class)
                .with_context(|| format!("{}: {key} {class:?} is not a family known here ({KNOWN})", file.display()));
        }
    }
    match metric_files(path).first() {
        Some(file) => family_of_file(file),
        None => bail!(
            "{}: neither model_index.json nor config.json nor weights of a metric net here: is it a model folder?",
            path.display()
        ),
    }
}

pub const KNOWN: &str = "blip, phi4mm, phi4_multimodal, StableDiffusion3Pipeline, StableDiffusionPipeline";

pub fn pipeline_family(class: &str) -> Option<Family> {
    match class {
        "StableDiffusion3Pipeline" | "StableDiffusion3Img2ImgPipeline" => Some(Family::StableDiffusion3),
        "StableDiffusionPipeline" | "StableDiffusionImg2ImgPipeline" => Some(Family::StableDiffusion),
        _ => None,
    }
}

pub fn model_type_family(model_type: &str) -> Option<Family> {
    match model_type {
        "blip" => Some(Family::Blip),
        "phi4mm" | "phi4_multimodal" => Some(Family::Phi4Multimodal),
        _ => None,
    }
}

fn string_of(file: &Path, key: &str) -> Result<String> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let json: Value = serde_json::from_slice(&text).with_context(|| format!("{} is not valid JSON", file.display()))?;
    match json.get(key).and_then(Value::as_str) {
        Some(value) => Ok(value.to_string()),
        None => bail!("{}: no {key} in it, so its family is unknown ({KNOWN})", file.display()),
    }
}

/// Tensors that only one family has.
const TELLING_TENSORS: &[(&str, Family)] = &[
    ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", Family::StableDiffusion3),
    ("model.diffusion_model.input_blocks.0.0.weight", Family::StableDiffusion),
    ("Conv2d_1a_3x3.conv.weight", Family::ArtInception),
    ("features.0.weight", Family::Lpips),
    ("lin0.model.1.weight", Family::Lpips),
];

/// Classes of the Inception v3 that FID is published in; others that share its layers have others.
const FID_CLASSES: i64 = 1008;

fn inception_v3(file: &Path, classifier: &[i64]) -> Result<Family> {
    match classifier.first() {
        Some(&FID_CLASSES) => Ok(Family::InceptionV3),
        classes => bail!(
            "{}: an Inception v3 of {} classes (fc.weight), such as torchvision's: FID's has {FID_CLASSES} and other \
             weights (`toolkit models pull inception-v3`)",
            file.display(),
            classes.copied().unwrap_or(0)
        ),
    }
}

pub fn family_of_file(file: &Path) -> Result<Family> {
    let checkpoint = Checkpoint::open(&[file])?;
    let known = TELLING_TENSORS.iter().find(|(name, _)| checkpoint.entry(name).is_some());
    if let Some((_, Family::ArtInception)) = known
        && let Some(classifier) = checkpoint.entry("fc.weight")
    {
        return inception_v3(file, &classifier.shape);
    }
    known.map(|(_, family)| *family).with_context(|| {
        let wrapped = TELLING_TENSORS.iter().find_map(|(name, _)| checkpoint.wrapped(name));
        let wrapped = wrapped.map(|text| format!(": {text}")).unwrap_or_default();
        format!("{}: its tensors are of no family known here as a single file{wrapped}", file.display())
    })
}

/// The checkpoint files of a metric net's folder, sorted by name.
pub fn metric_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_metric_file))
        .collect();
    files.sort();
    files
}

/// Whether a file of this name may hold a metric net's weights.
pub fn is_metric_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("pth" | "pt" | "safetensors")) && !runtime::is_hidden(Path::new(name))
}
