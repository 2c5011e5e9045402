//! From what the user typed to files on this machine, and from their own config to the family.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::detect::{family_of, metric_files};
use super::diffusion::lora;
use super::diffusion::stable_diffusion::ip_adapter;
use super::family::Family;
use super::files::{LORA_FILES, ModelFiles};
use super::metric_nets::{alexnet, clip, csd, dinov2, inception};
use super::registry::{MODELS, ModelEntry, ModelSource, built_in};
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
    pub family: &'static Family,
}

/// Finds a model: a built-in name, a local folder or file, or a hub id `owner/name`, of one file `owner/name/FILE` (each
/// perhaps with `@revision` behind it), in the Hugging Face cache, downloaded there when it is missing and the network may
/// be used.
pub fn locate(name: &str, rt: &Runtime) -> Result<Located> {
    let Some((path, entry)) = place(name, rt.offline)? else { return Err(unknown(name)) };
    let family = entry.map_or_else(|| family_of(&path), |entry| Ok(entry.family))?;
    if *family == ip_adapter::FAMILY {
        bring_encoder(name, rt.offline)?;
    }
    Ok(Located { path: one_file_of(path, family), entry, family })
}

/// Where what has this name is, with its row if it is a built-in one; none where nothing can be called so.
fn place(name: &str, offline: bool) -> Result<Option<(PathBuf, Option<&'static ModelEntry>)>> {
    if let Some(entry) = built_in(name) {
        return Ok(Some((fetch(entry, offline)?, Some(entry))));
    }
    let found = if Path::new(name).exists() {
        Ok(PathBuf::from(name))
    } else if let Some((repository, file)) = repository_file(name) {
        published_file(&repository, &file, offline)
    } else if let Some(repository) = repository(name).filter(|_| !is_weights(name)) {
        repository.folder(offline, &ModelFiles)
    } else {
        return Ok(None);
    };
    match found {
        Err(error) if offline => {
            Err(anyhow!("{error:#}: `toolkit models pull {name}` downloads it where it may be used"))
        }
        found => found.map(|path| Some((path, None))),
    }
}

/// Of `owner/name/FILE`. What lies in a folder that is here is meant to be here itself.
fn repository_file(name: &str) -> Option<(hub::Repository, String)> {
    let first = name.split('/').next().unwrap_or_default();
    let found = hub::Repository::parse_file(hub::Kind::Model, name).filter(|(_, file)| is_weights(file));
    found.filter(|_| !Path::new(first).is_dir())
}

/// Whether a file of this name holds weights.
fn is_weights(name: &str) -> bool {
    let name = name.split('@').next().unwrap_or_default();
    [".safetensors", ".bin", ".pt", ".pth", ".ckpt"].iter().any(|ending| name.ends_with(ending))
}

fn published_file(repository: &hub::Repository, file: &str, offline: bool) -> Result<PathBuf> {
    match repository.cached_file(file) {
        Some(path) if offline || Checkpoint::open(&[&path]).is_ok() => Ok(path),
        None if offline => bail!(
            "{file} of {} is not in the Hugging Face cache {} and the network is not to be used",
            repository.id(),
            hub::cache_dir().display()
        ),
        _ => repository.download_file(file),
    }
}

/// The file of low-rank adapters (LoRA) that is called so.
///
/// # Errors
/// Wrong usage: there is none of this name, or a folder of several.
pub fn locate_lora(name: &str, offline: bool) -> Result<PathBuf> {
    let path = adapter(name, offline, "file of low-rank adapters (LoRA)")?;
    one_adapter_of(name, &path, "low-rank adapters (LoRA)")
}

/// The file of an adapter, or the one in a folder.
fn one_adapter_of(name: &str, path: &Path, what: &str) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let usual = LORA_FILES.iter().map(|file| path.join(file)).find(|file| file.is_file());
    match (usual, metric_files(path).as_slice()) {
        (Some(file), _) => Ok(file),
        (None, [file]) => Ok(file.clone()),
        (None, files) => {
            Err(usage(format!("{name}: {} files of weights in this folder: name the one of {what}", files.len())))
        }
    }
}

/// The folder, or the original single file, of the ControlNet that is called so.
///
/// # Errors
/// Wrong usage: there is none of this name.
pub fn locate_controlnet(name: &str, offline: bool) -> Result<PathBuf> {
    adapter(name, offline, "ControlNet (a folder, an original single file, or a hub id)")
}

/// The file of the IP-Adapter that is called so. With one of the hub comes the encoder of its pictures, which lies beside it as
/// published; the larger encoder lies with the models for SDXL.
///
/// # Errors
/// Wrong usage: there is none of this name, or a folder of several.
pub fn locate_ip_adapter(name: &str, offline: bool) -> Result<PathBuf> {
    let what =
        "IP-Adapter (a file like ip-adapter_sd15.safetensors, with the folder image_encoder beside it, or a hub id)";
    let path = one_adapter_of(name, &adapter(name, offline, what)?, "the IP-Adapter")?;
    bring_encoder(name, offline)?;
    Ok(path)
}

/// Downloads the encoder of an IP-Adapter of the hub where it is not here.
fn bring_encoder(name: &str, offline: bool) -> Result<()> {
    let published = match built_in(name).map(|entry| &entry.source) {
        Some(ModelSource::HubFile { repo, file }) => repository(repo).map(|repository| (repository, file.to_string())),
        Some(_) => None,
        None => repository_file(name).filter(|_| !Path::new(name).exists()),
    };
    let Some((repository, file)) = published.filter(|_| !offline) else { return Ok(()) };
    for part in encoder_files(&file) {
        if repository.cached_file(&part).is_none() {
            repository.download_file(&part)?;
        }
    }
    Ok(())
}

/// Where a repository has the encoder of its IP-Adapter `file`.
fn encoder_files(file: &str) -> [String; 2] {
    let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let folder = if file.contains("vit-G") { "sdxl_models/" } else { &folder };
    ["config.json", "model.safetensors"].map(|part| format!("{folder}image_encoder/{part}"))
}

fn adapter(name: &str, offline: bool, what: &str) -> Result<PathBuf> {
    match place(name, offline)? {
        Some((path, _)) => Ok(path),
        None => Err(usage(format!("{name}: no such {what}"))),
    }
}

/// A folder that holds nothing but a generator's single file is that file.
fn one_file_of(path: PathBuf, family: &Family) -> PathBuf {
    let (is_lora, is_ip_adapter) = (*family == lora::FAMILY, *family == ip_adapter::FAMILY);
    if let Some(file) = LORA_FILES.iter().map(|file| path.join(file)).find(|file| is_lora && file.is_file()) {
        return file;
    }
    if !(family.is_generator() || is_lora || is_ip_adapter) || !path.is_dir() || path.join("model_index.json").is_file()
    {
        return path;
    }
    metric_files(&path).into_iter().next().unwrap_or(path)
}

/// Where a built-in model is, without any download; None when it is not (wholly) here.
pub fn find_local(entry: &ModelEntry) -> Option<PathBuf> {
    match entry.source {
        ModelSource::Hub(id) => repository(id)?.cached_folder(&ModelFiles),
        ModelSource::HubFile { repo, file } if *entry.family == ip_adapter::FAMILY => {
            let repository = repository(repo)?;
            let parts = encoder_files(file).iter().all(|part| repository.cached_file(part).is_some());
            repository.cached_file(file).filter(|_| parts)
        }
        ModelSource::HubFile { repo, file } => repository(repo)?
            .cached_file(file)
            .or_else(|| if is_own_name(file) { torch_cache::cached(file) } else { None })
            .or_else(|| if is_own_name(file) { torch_cache::art_fid_file(file) } else { None }),
        ModelSource::Torch { file, .. } => torch_cache::cached(file),
        ModelSource::Embedded(folder) => embedded(folder).ok().filter(|folder| folder.is_dir()),
    }
}

/// Whether a file of this name is this model's wherever it lies; half of all models have a `pytorch_model.bin`.
fn is_own_name(file: &str) -> bool {
    !file.starts_with("pytorch_model") && !file.starts_with("model.")
}

fn fetch(entry: &ModelEntry, offline: bool) -> Result<PathBuf> {
    // A repository knows itself whether it is here, and whole.
    let is_repository = matches!(entry.source, ModelSource::Hub(_)) && !offline;
    if let Some(path) = find_local(entry).filter(|_| !is_repository)
        && (offline || path.is_dir() || Checkpoint::open(&[&path]).is_ok())
    {
        return Ok(path);
    }
    if !matches!(entry.source, ModelSource::Embedded(_)) && offline {
        bail!(
            "model {} is not on this machine: `toolkit models pull {}` downloads it where the network may be used; or give \
             a folder",
            entry.name,
            entry.name
        );
    }
    match entry.source {
        ModelSource::Hub(id) => repository(id).context("a wrong hub id in the table")?.folder(offline, &ModelFiles),
        ModelSource::HubFile { repo, file } => {
            repository(repo).context("a wrong hub id in the table")?.download_file(file)
        }
        ModelSource::Torch { file, url } => torch_cache::download(file, url),
        ModelSource::Embedded(folder) => {
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

/// The weights of an art-Inception: a name, a folder or a file.
pub fn locate_inception(name: &str, rt: &Runtime) -> Result<PathBuf> {
    metric_file(name, rt, &inception::ART_FAMILY, "Conv2d_1a_3x3.conv.weight")
}

/// The weights of the Inception v3 that FID is published in: a name, a folder or a file.
pub fn locate_inception_v3(name: &str, rt: &Runtime) -> Result<PathBuf> {
    metric_file(name, rt, &inception::FID_FAMILY, "Conv2d_1a_3x3.conv.weight")
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
    Ok(LpipsFiles { linear: locate_lpips_linear(linear, rt)?, backbone: locate_lpips_backbone(backbone, rt)? })
}

/// The convolutions of LPIPS alone.
pub fn locate_lpips_backbone(name: &str, rt: &Runtime) -> Result<PathBuf> {
    metric_file(name, rt, &alexnet::FAMILY, "features.0.weight")
}

/// The linear heads of LPIPS alone.
pub fn locate_lpips_linear(name: &str, rt: &Runtime) -> Result<PathBuf> {
    match name {
        "lpips-alex" => Ok(runtime::home()?.join("assets/lpips/alex.pth")),
        other => metric_file(other, rt, &alexnet::FAMILY, "lin0.model.1.weight"),
    }
}

/// The folder of a CLIP: a name, a folder or a hub id.
pub fn locate_clip(name: &str, rt: &Runtime) -> Result<PathBuf> {
    locate_folder(name, &clip::FAMILY, rt)
}

/// The folder of a DINOv2: a name, a folder or a hub id.
pub fn locate_dinov2(name: &str, rt: &Runtime) -> Result<PathBuf> {
    locate_folder(name, &dinov2::FAMILY, rt)
}

fn locate_folder(name: &str, family: &Family, rt: &Runtime) -> Result<PathBuf> {
    let path = locate_as(name, family, rt)?.path;
    if path.is_file() {
        bail!("{}: a {} is a folder with its config.json", path.display(), family.title());
    }
    Ok(path)
}

/// The file of a CSD: a name or a file, or a folder with no more than it.
pub fn locate_csd(name: &str, rt: &Runtime) -> Result<PathBuf> {
    let path = locate_as(name, &csd::FAMILY, rt)?.path;
    if path.is_file() {
        return Ok(path);
    }
    metric_files(&path).into_iter().next().with_context(|| format!("{}: no weights here", path.display()))
}

fn locate_as(name: &str, family: &Family, rt: &Runtime) -> Result<Located> {
    let check = |found: &Family| -> Result<()> {
        ensure!(found == family, "{name} is a {}, not a {}", found.title(), family.title());
        Ok(())
    };
    // Before anything of it is downloaded.
    built_in(name).map_or(Ok(()), |entry| check(entry.family))?;
    let located = locate(name, rt)?;
    check(located.family)?;
    Ok(located)
}

/// The file of a metric net that holds this tensor.
fn metric_file(name: &str, rt: &Runtime, family: &Family, tensor: &str) -> Result<PathBuf> {
    let located = locate_as(name, family, rt)?;
    let files = if located.path.is_dir() { metric_files(&located.path) } else { vec![located.path.clone()] };
    for file in files {
        if Checkpoint::open(&[&file])?.entry(tensor).is_some() {
            return Ok(file);
        }
    }
    bail!("{}: no tensor {tensor} here, which a {} has", located.path.display(), family.title())
}
