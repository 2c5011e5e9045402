//! Checking a model's files: whole, as published, every number finite, and fit to build the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use tch::{Device, Kind};

use super::detect::metric_files;
use super::family::{Checked, Task};
use super::locate::Located;
use super::needed_files::parts_of_folder;
use crate::checkpoints::{Checkpoint, files_of_dir, is_finite};
use crate::hub::sha256;
use crate::hub::torch_cache::expected_digits;
use crate::runtime::{DtypeChoice, Runtime};

/// What was found in one file, all of it in order.
#[derive(Debug)]
pub struct FileReport {
    pub path: PathBuf,
    pub tensors: usize,
    /// Numbers in all tensors.
    pub parameters: i64,
    pub bytes: u64,
    /// Whether its sha256 was compared (the caches know it of some files).
    pub hashed: bool,
    /// Whether the CRC-32 of every part were compared (PyTorch's zip archives carry them).
    pub summed: bool,
}

/// Checks every weight file: header against length, the CRC-32 that a zip archive carries, every number
/// finite, and the sha256 where the file's cache knows it. The first fault is an error that names file and
/// tensor. Loading a model compares no sums: it maps the files and reads each number once.
pub fn verify_files(located: &Located) -> Result<Vec<FileReport>> {
    weight_files(&located.path)?.iter().map(|file| verify_file(file)).collect()
}

/// Builds the model on the CPU in the number type of its files, so that most tensors are the mapped
/// files themselves: every tensor must be there, none too many, each of the shape that the
/// configuration asks for. Inception and LPIPS have no configuration to be held against, and are strict when they are
/// used. Of an adapter it is said what it is for.
pub fn verify_build(located: &Located) -> Result<Checked> {
    let rt = Runtime { device: Device::Cpu, dtype: stored_type(&located.path)?, offline: true };
    match &located.family.task {
        Task::Caption(captioner) => drop((captioner.load)(&located.path, &rt)?),
        Task::Generate(generator) => (generator.verify)(&located.path, &rt)?,
        Task::Adapt(adapter) => return (adapter.verify)(&located.path, &rt),
        Task::Measure(net) => match net.verify {
            Some(verify) => verify(&located.path, &rt)?,
            None => return Ok(Checked { built: false, about: None }),
        },
    }
    Ok(Checked { built: true, about: None })
}

/// The weight files of a model, of all its parts.
fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    if path.join("model_index.json").is_file() {
        let mut files = Vec::new();
        let mut parts = parts_of_folder(path)?;
        // It is used only where it is asked for.
        if path.join("safety_checker").is_dir() {
            parts.push("safety_checker".to_string());
        }
        for part in parts {
            // Schedulers and tokenizers have no weights.
            if path.join(&part).join("config.json").is_file() {
                files.extend(part_files(&path.join(part))?);
            }
        }
        return Ok(files);
    }
    if path.join("config.json").is_file() {
        return part_files(path);
    }
    match metric_files(path) {
        files if files.is_empty() => bail!("{}: no weights here", path.display()),
        files => Ok(files),
    }
}

fn part_files(folder: &Path) -> Result<Vec<PathBuf>> {
    files_of_dir(folder, "model").or_else(|error| files_of_dir(folder, "diffusion_pytorch_model").or(Err(error)))
}

fn verify_file(path: &Path) -> Result<FileReport> {
    let checkpoint = Checkpoint::open(&[path])?;
    let summed = checkpoint.check_sums()? > 0;
    let mut parameters = 0;
    let names: Vec<&str> = checkpoint.names().collect();
    for name in &names {
        let Some(entry) = checkpoint.entry(name) else { continue };
        parameters += entry.len();
        if !is_finite(&checkpoint.read(name, Device::Cpu, entry.kind)?) {
            bail!("{}: tensor {name} holds NaN or infinity: a damaged file?", path.display());
        }
    }
    let hashed = verify_hash(path)?;
    let bytes = std::fs::metadata(path)?.len();
    Ok(FileReport { path: path.to_path_buf(), tensors: names.len(), parameters, bytes, hashed, summed })
}

/// The hub's cache calls large files by their sha256, torch's by its first digits.
fn verify_hash(path: &Path) -> Result<bool> {
    let real = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_string();
    let blob = name(&real);
    let is_sha256 = blob.len() == 64 && blob.chars().all(|c| c.is_ascii_hexdigit());
    let expected = if is_sha256 { Some(blob) } else { expected_digits(&name(path)).map(str::to_string) };
    let Some(expected) = expected else { return Ok(false) };
    let found = sha256(&real)?;
    if !found.starts_with(&expected) {
        bail!("{}: its sha256 is {found}, it should be {expected}: a broken download?", path.display());
    }
    Ok(true)
}

/// The number type that most of the numbers are stored in.
fn stored_type(path: &Path) -> Result<DtypeChoice> {
    let files = weight_files(path)?;
    let checkpoints = files.par_iter().map(|file| Checkpoint::open(&[file])).collect::<Result<Vec<_>>>()?;
    let mut counts = BTreeMap::new();
    for checkpoint in &checkpoints {
        for entry in checkpoint.names().filter_map(|name| checkpoint.entry(name)) {
            let choice = match entry.kind {
                Kind::Half => 1,
                Kind::BFloat16 => 2,
                _ => 0,
            };
            *counts.entry(choice).or_insert(0) += entry.len();
        }
    }
    Ok(match counts.into_iter().max_by_key(|(_, count)| *count) {
        Some((1, _)) => DtypeChoice::Float16,
        Some((2, _)) => DtypeChoice::Bfloat16,
        _ => DtypeChoice::Float32,
    })
}
