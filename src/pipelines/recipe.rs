//! What a picture was drawn from, as its PNG file carries it: everything to draw it again.
//!
//! Two texts stand before the pixels: `parameters`, in the form that readers of A1111 and ComfyUI know, and `toolkit`, JSON
//! in ASCII. Neither holds a time, so that the same picture is the same file.

use std::path::Path;

use anyhow::Result;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::origin::{ControlOrigin, FileOrigin, IpAdapterOrigin, Origin};
use crate::error::usage;
use crate::images::{Fit, Text, checked_side, read_text};
use crate::models::{ControlRequest, GenerateRequest, IpAdapterChoice, LoraChoice, Settled};
use crate::schedulers::{SchedulerName, SolverOptions};

/// The keyword of the JSON.
const KEYWORD: &str = "toolkit";

/// The keywords of [`Recipe::texts`].
pub const KEYWORDS: [&str; 2] = ["parameters", KEYWORD];

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
