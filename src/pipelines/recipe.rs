//! What a picture was drawn from, as its PNG file carries it: everything to draw it again.
//!
//! Two texts stand before the pixels: `parameters`, in the form that readers of A1111 and ComfyUI know, and `toolkit`, JSON
//! in ASCII. Neither holds a time, so that the same picture is the same file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::usage;
use crate::images::{ControlMap, Fit, Text, checked_side, read_text};
use crate::models::{
    ControlRequest, GenerateRequest, IpAdapterChoice, LoraChoice, Settled, locate_controlnet, locate_ip_adapter,
    locate_lora,
};
use crate::runtime::{files_below, sha256_of};
use crate::schedulers::{SchedulerName, SolverOptions};

/// The keyword of the JSON.
const KEYWORD: &str = "toolkit";

/// The keywords of [`Recipe::texts`].
pub const KEYWORDS: [&str; 2] = ["parameters", KEYWORD];
/// Smaller files of a model count with their content in its digest.
const SMALL: u64 = 1 << 20;

/// What one picture was drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub prompt: String,
    #[serde(default)]
    pub negative_prompt: String,
    pub seed: u64,
    pub steps: usize,
    /// The solver that drew, whether it was asked for or the checkpoint's own.
    pub sampler: String,
    pub guidance_scale: f64,
    /// In pixels, as it was drawn; the file itself may be smaller.
    pub width: usize,
    pub height: usize,
    /// As it was named.
    pub model: String,
    /// The commit of a hub's repository, else a digest of the model's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Image-to-image: how far the photo was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub photo: Option<FileOrigin>,
    /// How the photo was brought to that size.
    #[serde(default, skip_serializing_if = "is_squash")]
    pub fit: Fit,
    /// The solver that was asked for; none: the checkpoint's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lora: Vec<FileOrigin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_adapter: Option<IpAdapterOrigin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlOrigin>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub safety_checker: bool,
    /// `cpu` or `cuda`.
    #[serde(default)]
    pub device: String,
    /// As it was chosen: `auto` is the model's own.
    #[serde(default)]
    pub dtype: String,
    /// Of this program.
    #[serde(default)]
    pub version: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_squash(fit: &Fit) -> bool {
    *fit == Fit::Squash
}

/// A ControlNet that steered a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlOrigin {
    /// As it was named; of a picture of a run a path as seen from that picture's folder.
    pub model: String,
    /// As [`Recipe::revision`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What it read of [`Recipe::photo`]; none: [`Self::image`].
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
    model: String,
    revision: Option<String>,
    device: String,
    dtype: String,
    lora: Vec<FileOrigin>,
    ip_adapter: Option<IpAdapterOrigin>,
    /// Name and revision of the ControlNet.
    control: Option<(String, Option<String>)>,
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

impl Recipe {
    /// Of picture `at` of a request.
    pub fn of(
        request: &GenerateRequest,
        at: usize,
        settled: &Settled,
        origin: &Origin,
        photo: Option<(FileOrigin, Fit)>,
    ) -> Self {
        // Named one by one, so that nothing that changes pictures is forgotten when it comes new.
        let GenerateRequest {
            prompts,
            negative_prompt,
            seeds,
            scheduler,
            solver_options,
            control,
            safety_checker,
            steps: _,
            guidance_scale: _,
            width: _,
            height: _,
            images: _,
            strength: _,
            loras: _,
            ip_adapter: _,
        } = request;
        let (photo, fit) = photo.unzip();
        Self {
            prompt: prompts[at].clone(),
            negative_prompt: negative_prompt.clone().unwrap_or_default(),
            seed: seeds[at],
            steps: settled.steps,
            sampler: settled.sampler.to_string(),
            guidance_scale: settled.guidance_scale,
            width: settled.width,
            height: settled.height,
            model: origin.model.clone(),
            revision: origin.revision.clone(),
            strength: settled.strength,
            photo,
            fit: fit.unwrap_or_default(),
            scheduler: *scheduler,
            eta: Some(solver_options.get("eta")).filter(|eta| *eta != 0.0),
            lora: origin.lora.clone(),
            ip_adapter: origin.ip_adapter.clone(),
            control: control.as_ref().map(|control| ControlOrigin {
                model: origin.control.as_ref().map_or(&control.model, |(name, _)| name).clone(),
                revision: origin.control.as_ref().and_then(|(_, revision)| revision.clone()),
                map: control.map,
                image: None,
                scale: control.scale,
                start: control.start,
                end: control.end,
            }),
            safety_checker: *safety_checker,
            device: origin.device.clone(),
            dtype: origin.dtype.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }

    /// The photo as the picture was drawn from it. A generator squeezes what has another size than the picture by itself.
    pub fn start(&self, photo: RgbImage) -> RgbImage {
        self.fit.start(photo, (self.width as u32, self.height as u32))
    }

    /// The request for this picture alone.
    pub fn request(
        &self,
        photo: Option<RgbImage>,
        loras: Vec<LoraChoice>,
        control: Option<ControlRequest>,
        ip_adapter: Option<IpAdapterChoice>,
    ) -> GenerateRequest {
        let mut solver_options = SolverOptions::default();
        if let Some(eta) = self.eta {
            solver_options.set("eta", eta);
        }
        GenerateRequest {
            prompts: vec![self.prompt.clone()],
            negative_prompt: Some(self.negative_prompt.clone()).filter(|text| !text.is_empty()),
            seeds: vec![self.seed],
            steps: Some(self.steps),
            guidance_scale: Some(self.guidance_scale),
            width: Some(self.width),
            height: Some(self.height),
            // What only steers is no start.
            images: photo.into_iter().filter(|_| self.strength.is_some()).collect(),
            strength: self.strength,
            scheduler: self.scheduler,
            solver_options,
            loras,
            control,
            ip_adapter,
            safety_checker: self.safety_checker,
        }
    }

    /// The texts of the picture's file.
    pub fn texts(&self) -> Result<Vec<Text>> {
        Ok(vec![("parameters", self.parameters()), (KEYWORD, ascii(&serde_json::to_string(self)?))])
    }

    /// As A1111 writes it.
    fn parameters(&self) -> String {
        let Self { prompt, steps, guidance_scale, seed, width, height, model, .. } = self;
        let negative = match self.negative_prompt.as_str() {
            "" => String::new(),
            text => format!("\nNegative prompt: {text}"),
        };
        let sampler = TITLES.iter().find(|(name, _)| *name == self.sampler).map_or(self.sampler.as_str(), |row| row.1);
        let strength = self.strength.map(|s| format!(", Denoising strength: {s}")).unwrap_or_default();
        format!(
            "{prompt}{negative}\nSteps: {steps}, Sampler: {sampler}, CFG scale: {guidance_scale}, Seed: {seed}, Size: \
             {width}x{height}, Model: {model}{strength}, Version: toolkit {}",
            self.version
        )
    }

    /// From a picture's file.
    ///
    /// # Errors
    /// Wrong usage that names the file: it is no PNG, has no such text, or one that this program does not write.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = read_text(path, KEYWORD).map_err(|error| usage(format!("{shown}: {error:#}")))?;
        let Some(text) = text else {
            return Err(usage(format!(
                "{shown} does not say what it was drawn from: it has no text {KEYWORD:?} (was it made elsewhere, or saved \
                 again by another program?)"
            )));
        };
        let recipe: Self = serde_json::from_str(&text).map_err(|error| {
            usage(format!("{shown}: its text {KEYWORD:?} is not what this program writes: {error}"))
        })?;
        recipe.check().map_err(|error| usage(format!("{shown}: its text {KEYWORD:?}: {error:#}")))?;
        Ok(recipe)
    }

    fn check(&self) -> Result<()> {
        for (name, side) in [("width", self.width), ("height", self.height)] {
            checked_side(name, side)?;
        }
        if self.photo.is_none() && self.fit != Fit::Squash {
            return Err(usage("fit and photo belong together"));
        }
        let map = self.control.as_ref().and_then(|control| control.map);
        if (self.strength.is_some() || map.is_some()) != self.photo.is_some() {
            return Err(usage(match map {
                Some(map) => format!("control map {map} and photo belong together"),
                None => "strength and photo belong together".to_string(),
            }));
        }
        Ok(())
    }
}

/// What A1111 calls the samplers.
const TITLES: [(&str, &str); 6] = [
    ("pndm", "PLMS"),
    ("ddim", "DDIM"),
    ("euler", "Euler"),
    ("euler-ancestral", "Euler a"),
    ("dpmsolver++", "DPM++ 2M"),
    ("heun", "Heun"),
];

/// JSON with every other character as its `\u` escapes: outside strings it has none.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            c if c.is_ascii() => text.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text += &format!("\\u{unit:04x}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::save_with;

    fn recipe() -> Recipe {
        let request = GenerateRequest {
            prompts: vec!["a cat \"漢\" 🐈".into()],
            negative_prompt: Some("blur".into()),
            seeds: vec![u64::MAX],
            scheduler: Some("ddim".parse().unwrap()),
            solver_options: SolverOptions::default().with("eta", 0.5),
            ..GenerateRequest::default()
        };
        let settled = Settled { steps: 7, guidance_scale: 4.5, strength: None, sampler: "ddim", width: 64, height: 32 };
        Recipe::of(&request, 0, &settled, &Origin { model: "m".into(), ..Origin::default() }, None)
    }

    fn read(text: &str) -> Result<Recipe, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.png");
        save_with(&RgbImage::new(4, 4), &file, &[(KEYWORD, text.to_string())]).unwrap();
        Recipe::read(&file).map_err(|error| {
            assert!(error.is::<crate::error::UsageError>());
            error.to_string()
        })
    }

    #[test]
    fn a_controlnet_is_noted() {
        let control = ControlRequest { model: "net".into(), scale: 0.5, end: 0.7, ..ControlRequest::default() };
        let request = GenerateRequest {
            prompts: vec!["a".into()],
            seeds: vec![1],
            control: Some(control),
            ..GenerateRequest::default()
        };
        let settled = Settled { steps: 7, guidance_scale: 4.5, strength: None, sampler: "ddim", width: 64, height: 32 };
        let recipe = Recipe::of(&request, 0, &settled, &Origin::default(), None);
        let noted = ControlOrigin {
            model: "net".into(),
            revision: None,
            map: None,
            image: None,
            scale: 0.5,
            start: 0.0,
            end: 0.7,
        };
        assert_eq!(recipe.control, Some(noted));
        assert_eq!(read(&recipe.texts().unwrap()[1].1).unwrap(), recipe);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let texts = recipe().texts().unwrap();
        assert!(texts[1].1.is_ascii());
        assert_eq!(read(&texts[1].1).unwrap(), recipe());
        assert_eq!(
            texts[0].1,
            "a cat \"漢\" 🐈\nNegative prompt: blur\nSteps: 7, Sampler: DDIM, CFG scale: 4.5, Seed: 18446744073709551615, \
             Size: 64x32, Model: m, Version: toolkit 0.1.0"
        );
        let again = recipe().request(None, Vec::new(), None, None);
        assert_eq!((again.steps, again.solver_options.get("eta"), again.width), (Some(7), 0.5, Some(64)));
    }

    #[test]
    fn what_this_program_does_not_write_is_refused() {
        let with = |from: &str, to: &str| read(&recipe().texts().unwrap()[1].1.replace(from, to)).unwrap_err();
        assert!(with("\"steps\":7", "\"steps\":\"7\"").contains("invalid type: string"));
        assert!(with("\"width\":64", "\"width\":999999999").contains("width = 999999999 is not between"));
        assert!(with("\"scheduler\":\"ddim\"", "\"scheduler\":\"dim\"").contains("ddim"));
        assert!(with("\"seed\"", "\"strength\":0.5,\"seed\"").contains("belong together"));
        assert!(read("[1, 2]").unwrap_err().contains("is not what this program writes"));
        assert!(read(&"[".repeat(100_000)).unwrap_err().contains("is not what this program writes"));
    }
}
