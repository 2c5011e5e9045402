//! The files and models that a picture was drawn from, and how they are found again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::usage;
use crate::images::ControlMap;
use crate::models::{
    ControlRequest, GenerateRequest, IpAdapterChoice, LoraChoice, locate_controlnet, locate_ip_adapter, locate_lora,
};
use crate::runtime::{files_below, sha256_of};

/// Smaller files of a model count with their content in its digest.
const SMALL: u64 = 1 << 20;

/// A ControlNet that steered a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlOrigin {
    /// As it was named; of a picture of a run a path as seen from that picture's folder.
    pub model: String,
    /// As [`Recipe::revision`](super::Recipe::revision).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What it read of [`Recipe::photo`](super::Recipe::photo); none: [`Self::image`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<ControlMap>,
    /// Files of earlier versions do not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<FileOrigin>,
    pub scale: f64,
    pub start: f64,
    pub end: f64,
}

/// An IP-Adapter, its scale as its weight, and the pictures that it was shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IpAdapterOrigin {
    #[serde(flatten)]
    pub adapter: FileOrigin,
    pub pictures: Vec<FileOrigin>,
}

impl IpAdapterOrigin {
    fn of(choice: &IpAdapterChoice) -> Result<Self> {
        let file = locate_ip_adapter(&choice.file.to_string_lossy(), true)?;
        Ok(Self {
            adapter: FileOrigin { path: choice.file.clone(), weight: Some(choice.scale), ..FileOrigin::of("", &file)? },
            pictures: choice.picture_files()?.iter().map(|file| FileOrigin::of("", file)).collect::<Result<_>>()?,
        })
    }

    /// The same adapter and pictures as they are now: `given`, else where they were (see [`FileOrigin::find`]).
    pub fn find(&self, given: Option<(&Path, &[PathBuf])>, beside: &Path) -> Result<IpAdapterChoice> {
        let pictures = given.map(|(_, pictures)| pictures);
        if let Some(given) = pictures.filter(|given| given.len() != self.pictures.len()) {
            return Err(usage(format!(
                "{} times --ip-image, and the picture was drawn after {}: give them all, in their order",
                given.len(),
                self.pictures.len()
            )));
        }
        let find = |(at, picture): (usize, &FileOrigin)| {
            let given = pictures.and_then(|given| given.get(at));
            picture.find(
                given.map(PathBuf::as_path),
                beside,
                "--ip-image FILE (and the adapter with --ip-adapter FILE)",
            )
        };
        Ok(IpAdapterChoice {
            file: self.adapter.find(
                given.map(|(adapter, _)| adapter),
                beside,
                "--ip-adapter FILE (and its pictures with --ip-image FILE)",
            )?,
            pictures: self.pictures.iter().enumerate().map(find).collect::<Result<_>>()?,
            scale: self.adapter.weight.unwrap_or(1.0),
        })
    }
}

/// A file that a picture was drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileOrigin {
    /// A photo's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// As it was given; of a picture of a run as seen from that picture's folder.
    pub path: PathBuf,
    pub sha256: String,
    /// How strongly an adapter counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

impl FileOrigin {
    /// The file as it is now.
    pub fn of(id: &str, path: &Path) -> Result<Self> {
        Ok(Self { id: id.to_string(), path: path.to_path_buf(), sha256: sha256_of(path)?, weight: None })
    }

    /// The file that is meant: `given`, else where it was, as seen from here or from `beside`, else of its name beside that.
    ///
    /// # Errors
    /// Wrong usage: there is none, or it is another one by its sha256.
    pub fn find(&self, given: Option<&Path>, beside: &Path, option: &str) -> Result<PathBuf> {
        let near = self.path.file_name().map(|name| beside.with_file_name(name));
        let seen_from_there = beside.parent().map(|folder| folder.join(&self.path));
        // A hub's file that is in the cache.
        let published =
            self.path.to_str().filter(|_| self.weight.is_some()).and_then(|name| locate_lora(name, true).ok());
        let own = vec![Some(self.path.clone()), seen_from_there, near, published];
        let mut places = given.map_or(own, |given| vec![Some(given.to_path_buf())]);
        let Some(file) = places.iter_mut().flatten().find(|place| place.is_file()) else {
            let shown = given.unwrap_or(&self.path).display();
            return Err(usage(format!(
                "{shown}, which the picture was drawn from, is not here: give it with {option}"
            )));
        };
        let found = sha256_of(file)?;
        if found != self.sha256 {
            let shown = file.display();
            return Err(usage(format!(
                "{shown} is not the file that the picture was drawn from (its sha256 is {found}, not {}): give that one \
                 with {option}",
                self.sha256
            )));
        }
        Ok(file.clone())
    }
}

/// What all pictures of a generator have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    pub(super) model: String,
    pub(super) revision: Option<String>,
    pub(super) device: String,
    pub(super) dtype: String,
    pub(super) lora: Vec<FileOrigin>,
    pub(super) ip_adapter: Option<IpAdapterOrigin>,
    /// Name and revision of the ControlNet.
    pub(super) control: Option<(String, Option<String>)>,
}

impl Origin {
    /// Of a model and of what a request puts onto it, by the model's name and where it is; `place` is device and number type.
    pub fn new(model: &str, path: &Path, (device, dtype): (String, String), request: &GenerateRequest) -> Result<Self> {
        let adapter = |choice: &LoraChoice| {
            let file = locate_lora(&choice.file.to_string_lossy(), true)?;
            let origin = FileOrigin::of("", &file)?;
            Ok(FileOrigin { path: choice.file.clone(), weight: Some(choice.weight), ..origin })
        };
        let net = |control: &ControlRequest| -> Result<_> {
            Ok((control.model.clone(), revision(&locate_controlnet(&control.model, true)?)?))
        };
        Ok(Self {
            model: model.to_string(),
            revision: revision(path)?,
            // Which of several GPUs drew is no matter.
            device: device.split(':').next().unwrap_or_default().to_string(),
            dtype: if dtype.contains(' ') { "auto".to_string() } else { dtype },
            lora: request.loras.iter().map(adapter).collect::<Result<_>>()?,
            ip_adapter: request.ip_adapter.as_ref().map(IpAdapterOrigin::of).transpose()?,
            control: request.control.as_ref().map(net).transpose()?,
        })
    }

    /// With its absolute paths shown otherwise: as they lead from a picture to files that are moved together with it.
    pub fn with_paths(mut self, shown: impl Fn(&Path) -> String) -> Self {
        let ip_adapter = self.ip_adapter.iter_mut().flat_map(|own| own.pictures.iter_mut().chain([&mut own.adapter]));
        for file in self.lora.iter_mut().chain(ip_adapter).filter(|file| file.path.is_absolute()) {
            file.path = shown(&file.path).into();
        }
        if let Some((name, _)) = self.control.as_mut().filter(|(name, _)| Path::new(name).is_absolute()) {
            *name = shown(Path::new(name));
        }
        self
    }

    /// What tells the model's files from others of its name.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }
}

/// The commit of a snapshot in the hub's cache; of other folders and files a digest of names, sizes and small files. The
/// weights themselves would take longer to read than a picture to draw; a run's `manifest.json` has their sha256.
fn revision(path: &Path) -> Result<Option<String>> {
    let parts: Vec<String> = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let commit = |part: &String| part.len() == 40 && part.chars().all(|c| c.is_ascii_hexdigit());
    if let Some(pair) = parts.windows(2).find(|pair| pair[0] == "snapshots" && commit(&pair[1])) {
        return Ok(Some(pair[1].clone()));
    }
    let mut digest = Sha256::new();
    for file in files_below(path)? {
        let size = fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?.len();
        let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
        digest.update(format!("{name}\n{size}\n"));
        if size <= SMALL {
            digest.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        }
    }
    Ok(Some(format!("sha256:{:x}", digest.finalize())[..23].to_string()))
}
