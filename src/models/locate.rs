//! From what the user typed to files on this machine, and from their own config to the family.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::files::ModelFiles;
use super::table::{Family, MODELS, ModelEntry, Source};
use crate::checkpoints::Checkpoint;
use crate::error::{nearest, usage};
use crate::hub::{self, torch_cache};
use crate::runtime::{self, Runtime};

/// A model that is on this machine.
#[derive(Debug, Clone)]
pub struct Located {
    /// A folder, or a single file.
    pub path: PathBuf,
    /// Its row in the table, when it was asked for by its built-in name.
    pub entry: Option<&'static ModelEntry>,
    pub family: Family,
}

/// Finds a model: a built-in name, a local folder or file, or a hub id `owner/name` (or
/// `owner/name@revision`) in the Hugging Face cache, downloaded there when it is missing and
/// the network may be used.
pub fn locate(name: &str, rt: &Runtime) -> Result<Located> {
    if let Some(entry) = MODELS.iter().find(|entry| entry.name == name) {
        return Ok(Located { path: fetch(entry, rt.offline)?, entry: Some(entry), family: entry.family });
    }
    let path = if Path::new(name).exists() {
        PathBuf::from(name)
    } else if let Some(repo) = repository(name) {
        repo.folder(rt.offline, &ModelFiles)?
    } else {
        return Err(unknown(name));
    };
    let family = family_of(&path)?;
    Ok(Located { path: one_file_of(path, family), entry: None, family })
}

/// A folder that holds nothing but a generator's single file is that file.
fn one_file_of(path: PathBuf, family: Family) -> PathBuf {
    if !family.is_generator() || !path.is_dir() || path.join("model_index.json").is_file() {
        return path;
    }
    metric_files(&path).into_iter().next().unwrap_or(path)
}

/// Where a built-in model is, without any download; None when it is not (wholly) here.
pub fn find_local(entry: &ModelEntry) -> Option<PathBuf> {
    match entry.source {
        Source::Hub(id) => repository(id)?.cached_folder(&ModelFiles),
        Source::HubFile { repo, file } => repository(repo)?
            .cached_file(file)
            .or_else(|| torch_cache::cached(file))
            .or_else(|| torch_cache::art_fid_file(file)),
        Source::Torch { file, .. } => torch_cache::cached(file),
        Source::Embedded(folder) => embedded(folder).ok().filter(|folder| folder.is_dir()),
    }
}

fn fetch(entry: &ModelEntry, offline: bool) -> Result<PathBuf> {
    // A repository knows itself whether it is here, and whole.
    let is_repository = matches!(entry.source, Source::Hub(_)) && !offline;
    if let Some(path) = find_local(entry).filter(|_| !is_repository)
        && (offline || path.is_dir() || Checkpoint::open(&[&path]).is_ok())
    {
        return Ok(path);
    }
    if !matches!(entry.source, Source::Embedded(_)) && offline {
        bail!(
            "model {} is not on this machine and the network is not to be used: \
             run `toolkit models pull {}` without --offline, or give a folder",
            entry.name,
            entry.name
        );
    }
    match entry.source {
        Source::Hub(id) => repository(id).context("a wrong hub id in the table")?.folder(offline, &ModelFiles),
        Source::HubFile { repo, file } => repository(repo).context("a wrong hub id in the table")?.download_file(file),
        Source::Torch { file, url } => torch_cache::download(file, url),
        Source::Embedded(folder) => {
            bail!("model {}: its folder {} is missing: is the clone complete?", entry.name, embedded(folder)?.display())
        }
    }
    .with_context(|| format!("model {}", entry.name))
}

fn repository(id: &str) -> Option<hub::Repository> {
    hub::Repository::parse(hub::Kind::Model, id)
}

fn embedded(folder: &str) -> Result<PathBuf> {
    Ok(runtime::home()?.join("experiments/mini").join(folder))
}

fn unknown(name: &str) -> anyhow::Error {
    usage(format!(
        "no model, folder or file is called {name:?}{} (`toolkit models list` shows the names)",
        nearest(name, MODELS.iter().map(|entry| entry.name))
    ))
}

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

pub(super) const KNOWN: &str = "blip, phi4mm, phi4_multimodal, StableDiffusion3Pipeline, StableDiffusionPipeline";

pub(super) fn pipeline_family(class: &str) -> Option<Family> {
    match class {
        "StableDiffusion3Pipeline" | "StableDiffusion3Img2ImgPipeline" => Some(Family::StableDiffusion3),
        "StableDiffusionPipeline" | "StableDiffusionImg2ImgPipeline" => Some(Family::StableDiffusion),
        _ => None,
    }
}

pub(super) fn model_type_family(model_type: &str) -> Option<Family> {
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

pub(super) fn family_of_file(file: &Path) -> Result<Family> {
    let checkpoint = Checkpoint::open(&[file])?;
    let known = TELLING_TENSORS.iter().find(|(name, _)| checkpoint.entry(name).is_some());
    known.map(|(_, family)| *family).with_context(|| {
        let wrapped = TELLING_TENSORS.iter().find_map(|(name, _)| checkpoint.wrapped(name));
        let wrapped = wrapped.map(|text| format!(": {text}")).unwrap_or_default();
        format!("{}: its tensors are of no family known here as a single file{wrapped}", file.display())
    })
}

/// The checkpoint files of a metric net's folder, sorted by name.
pub(super) fn metric_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_metric_file))
        .collect();
    files.sort();
    files
}

/// Whether a file of this name may hold a metric net's weights.
pub(super) fn is_metric_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("pth" | "pt" | "safetensors")) && !runtime::is_hidden(Path::new(name))
}

/// The weights of an art-Inception: a name, a folder or a file.
pub fn locate_inception(name: &str, rt: &Runtime) -> Result<PathBuf> {
    metric_file(name, rt, Family::ArtInception, "Conv2d_1a_3x3.conv.weight")
}

/// The two files of an LPIPS net.
#[derive(Debug, Clone)]
pub struct LpipsFiles {
    /// AlexNet's convolutions (`features.N.weight`).
    pub backbone: PathBuf,
    /// The five linear heads (`linN.model.1.weight`).
    pub linear: PathBuf,
}

/// The files of LPIPS, each from a name, a folder or a file. The heads of `lpips-alex` are part of
/// this repository.
pub fn locate_lpips(backbone: &str, linear: &str, rt: &Runtime) -> Result<LpipsFiles> {
    let linear = match linear {
        "lpips-alex" => runtime::home()?.join("assets/lpips/alex.pth"),
        other => metric_file(other, rt, Family::Lpips, "lin0.model.1.weight")?,
    };
    Ok(LpipsFiles { backbone: metric_file(backbone, rt, Family::Lpips, "features.0.weight")?, linear })
}

/// The file of a metric net that holds this tensor.
fn metric_file(name: &str, rt: &Runtime, family: Family, tensor: &str) -> Result<PathBuf> {
    let located = locate(name, rt)?;
    if located.family != family {
        bail!("{name} is a {}, not a {}", located.family.title(), family.title());
    }
    let files = if located.path.is_dir() { metric_files(&located.path) } else { vec![located.path.clone()] };
    for file in files {
        if Checkpoint::open(&[&file])?.entry(tensor).is_some() {
            return Ok(file);
        }
    }
    bail!("{}: no tensor {tensor} here, which a {} has", located.path.display(), family.title())
}
