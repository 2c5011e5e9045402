//! `manifest.json`: what a run was made with, down to the hash of every model file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::folder::RunFolder;
use crate::runtime::{cache_folder, files_below, sha256_of, shell_word, tf32_is_chosen, write_whole};

/// What `manifest.json` says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// What was typed.
    pub command: String,
    pub toolkit: String,
    pub libtorch: String,
    pub device: String,
    pub dtype: String,
    /// Whether networks of metrics rounded to TensorFloat-32.
    #[serde(skip_serializing_if = "is_off")]
    pub tf32: bool,
    /// Seconds since 1970.
    pub started: u64,
    /// Whether everything planned was done (or tried and failed).
    pub finished: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub strategies: usize,
    #[serde(skip_serializing_if = "is_zero")]
    pub photos: usize,
    #[serde(skip_serializing_if = "is_zero")]
    pub style_pictures: usize,
    /// The seeds of the experiment; each picture's own is in items.csv.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<u64>,
    /// What a caption run read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data_sets: Vec<DataSet>,
    pub model_files: Vec<ModelFile>,
}

fn is_off(choice: &bool) -> bool {
    !choice
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A data set as a run found it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataSet {
    /// Its name in the configuration.
    pub name: String,
    pub format: String,
    pub file: PathBuf,
    pub split: String,
    /// Pictures of this run.
    pub pictures: usize,
    /// Pictures that the annotations name and that are not there.
    pub missing: Vec<String>,
    /// Ids of pictures without a reference caption, left out.
    pub without_references: Vec<String>,
    /// Pictures at a time.
    pub batch_size: usize,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// The model's name in the configuration.
    pub model: String,
    pub file: PathBuf,
    pub bytes: u64,
    pub sha256: String,
}

/// The manifest of a run that is under way: hashing goes on beside the run.
#[derive(Debug)]
pub struct Manifest {
    facts: Facts,
    hashes: Option<JoinHandle<Result<Vec<ModelFile>>>>,
}

impl Manifest {
    /// Writes what is known now and starts hashing the model files: `facts` says what only that kind knows, `place` device and number type, `files`
    /// where each model is.
    pub fn begin(
        folder: &RunFolder,
        facts: Facts,
        (device, dtype): (String, String),
        files: Vec<(String, PathBuf)>,
    ) -> Result<Self> {
        let facts = Facts {
            command: command(),
            toolkit: env!("CARGO_PKG_VERSION").to_string(),
            libtorch: crate::runtime::shim::libtorch_version(),
            device,
            dtype,
            tf32: tf32_is_chosen(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            finished: false,
            ..facts
        };
        if let Ok(earlier) = Facts::read(&folder.dir)
            && (class(&earlier.device), &earlier.dtype) != (class(&facts.device), &facts.dtype)
        {
            tracing::warn!(
                "this run was begun on {} in {} and goes on with {} in {}: pictures may differ by a grey level",
                earlier.device,
                earlier.dtype,
                facts.device,
                facts.dtype
            );
        }
        facts.write(folder)?;
        Ok(Self { facts, hashes: Some(std::thread::spawn(move || hash_all(&files, memory().as_deref()))) })
    }

    /// A manifest that knows everything already (merged from others).
    pub fn known(facts: Facts) -> Self {
        Self { facts: Facts { command: command(), ..facts }, hashes: None }
    }

    /// Writes the whole manifest once the hashes are there.
    pub fn finish(self, folder: &RunFolder) -> Result<()> {
        let mut facts = Facts { finished: true, ..self.facts };
        if let Some(hashes) = self.hashes {
            facts.model_files = hashes.join().map_err(|_| anyhow!("hashing the model files failed"))??;
        }
        facts.write(folder)
    }
}

/// Which kind of device, however many there are.
fn class(device: &str) -> &str {
    device.split([':', ',']).next().unwrap_or(device)
}

impl Facts {
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join("manifest.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a manifest", path.display()))
    }

    pub fn write(&self, folder: &RunFolder) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        write_whole(&folder.path("manifest.json"), |file| Ok(file.write_all(text.as_bytes())?))
    }
}

/// The command line of this process, by the program's usual name.
fn command() -> String {
    let arguments = std::env::args_os().skip(1).map(|argument| shell_word(&argument.to_string_lossy()));
    std::iter::once("./toolkit".to_string()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Hashes of files, remembered by path, size and time of change: real checkpoints have gigabytes.
type Known = BTreeMap<String, String>;

/// Smaller files are hashed faster than it is worth remembering.
const WORTH_REMEMBERING: u64 = 16 << 20;

fn hash_all(models: &[(String, PathBuf)], memory: Option<&Path>) -> Result<Vec<ModelFile>> {
    let mut list: Vec<ModelFile> = Vec::new();
    let mut known: Known = memory
        .as_ref()
        .and_then(|path| fs::read(path).ok())
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let before = known.len();
    for (model, path) in models {
        for file in files_below(path)? {
            let (bytes, stamp) = stamp(&file)?;
            let sha256 = match known.get(&stamp) {
                Some(hash) => hash.clone(),
                None => sha256_of(&file)?,
            };
            if bytes >= WORTH_REMEMBERING {
                known.insert(stamp, sha256.clone());
            }
            let entry = ModelFile { model: model.clone(), file, bytes, sha256 };
            if !list.contains(&entry) {
                list.push(entry);
            }
        }
    }
    if known.len() > before
        && let Some(path) = memory
        && let Some(folder) = path.parent()
        && fs::create_dir_all(folder).is_ok()
    {
        // Only a memory: a run does not fail for it.
        let _ = write_whole(path, |file| Ok(file.write_all(&serde_json::to_vec(&known)?)?));
    }
    Ok(list)
}

fn memory() -> Option<PathBuf> {
    Some(cache_folder()?.join("sha256.json"))
}

/// The size, and what identifies this state of the file.
fn stamp(file: &Path) -> Result<(u64, String)> {
    let real = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
    let metadata = fs::metadata(&real).with_context(|| format!("cannot read {}", file.display()))?;
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    Ok((metadata.len(), format!("{} {} {changed}", real.display(), metadata.len())))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn hashes_are_sha256_of_every_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a.bin"), b"abc").unwrap();
        fs::write(dir.path().join(".hidden"), b"x").unwrap();
        let models = [("m".to_string(), dir.path().to_path_buf()), ("m".to_string(), dir.path().to_path_buf())];
        let files = hash_all(&models, None).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].bytes, files[0].model.as_str()), (3, "m"));
        // python: hashlib.sha256(b"abc").hexdigest()
        assert_eq!(files[0].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn large_files_are_hashed_once_until_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (file, memory) = (dir.path().join("large.bin"), dir.path().join("cache/memory.json"));
        File::create(&file).unwrap().set_len(WORTH_REMEMBERING).unwrap();
        let models = [("m".to_string(), file.clone())];
        let first = hash_all(&models, Some(&memory)).unwrap();
        let text = fs::read_to_string(&memory).unwrap();
        assert!(text.contains(&first[0].sha256));
        fs::write(&memory, text.replace(&first[0].sha256, "remembered")).unwrap();
        assert_eq!(hash_all(&models, Some(&memory)).unwrap()[0].sha256, "remembered");
        File::create(&file).unwrap().set_len(WORTH_REMEMBERING + 1).unwrap();
        let changed = hash_all(&models, Some(&memory)).unwrap();
        assert!(changed[0].sha256.len() == 64 && changed[0].sha256 != first[0].sha256);
    }
}
