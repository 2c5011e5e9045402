//! What the configuration files of a Stable Diffusion pipeline say of a request, without any weights.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::adapters;
use super::config::{SAFETY_CHECKER, UNET, VAE};
use super::ip_adapter::AdapterFiles;
use super::{controlnet, unet};
use crate::error::usage;
use crate::models::diffusion::autoencoder_kl;
use crate::models::diffusion::lora::Index;
use crate::models::diffusion::model::PipelineOutline;
use crate::models::diffusion::pipeline_source::PipelineSource;
use crate::models::{GenerateRequest, Outline};
use crate::schedulers::{Scheduler, Solver, first_step};

/// Defaults of the pipelines.
const STEPS: usize = 50;
const STRENGTH: f64 = 0.8;

/// The configurations of a pipeline.
#[derive(Debug)]
pub struct SdOutline {
    pub source: PipelineSource,
    pub unet: unet::Config,
    pub vae: autoencoder_kl::Config,
    pub scheduler: Scheduler,
}

impl SdOutline {
    /// The size that is drawn where none is asked for: height and width in pixels.
    fn default_size(&self) -> (i64, i64) {
        let (scale, (height, width)) = (self.vae.scale_factor(), self.unet.sides().unwrap_or((64, 64)));
        (height * scale, width * scale)
    }

    /// How the pipeline prepares pictures for CLIP, where it says so.
    pub fn feature_extractor(&self) -> Option<PathBuf> {
        match &self.source {
            PipelineSource::Folder(folder) => Some(folder.join("feature_extractor")).filter(|folder| folder.is_dir()),
            _ => None,
        }
    }

    /// Where the checker's folders are, if the checkpoint has one.
    pub fn checker_folder(&self) -> Result<Option<&Path>> {
        match &self.source {
            PipelineSource::Folder(folder) if self.source.has(SAFETY_CHECKER.folder)? => Ok(Some(folder)),
            _ => Ok(None),
        }
    }

    /// The same for a request that asks for the checker: its files must be there.
    pub fn needed_checker(&self) -> Result<&Path> {
        let Some(folder) = self.checker_folder()? else {
            return Err(usage("this checkpoint has no safety checker: leave the option out"));
        };
        if !folder.join(SAFETY_CHECKER.folder).is_dir() {
            return Err(usage(format!(
                "{}: the safety checker is not there: add the checkpoint's folders safety_checker and feature_extractor \
                 (`hf download OWNER/NAME --include \"safety_checker/*\" \"feature_extractor/*\"`)",
                folder.display()
            )));
        }
        Ok(folder)
    }
}

impl Outline for SdOutline {
    fn own_size(&self) -> (usize, usize) {
        let (height, width) = self.default_size();
        (width as usize, height as usize)
    }

    fn check(&self, request: &GenerateRequest) -> Result<()> {
        self.check_request(request)
    }
}

impl PipelineOutline for SdOutline {
    fn read(source: PipelineSource) -> Result<Self> {
        let unet: unet::Config = source.config(UNET.folder)?;
        let vae: autoencoder_kl::Config = source.config(VAE.folder)?;
        if unet.in_channels != vae.latent_channels || unet.out_channels != vae.latent_channels {
            return Err(usage(format!(
                "the U-Net reads {} channels and gives {} (in_channels, out_channels of unet), the autoencoder has {} \
                 (latent_channels of vae): models that fill in or enlarge \
                 pictures are not known here",
                unet.in_channels, unet.out_channels, vae.latent_channels
            )));
        }
        let scheduler = source.scheduler(None)?;
        Ok(Self { source, unet, vae, scheduler })
    }

    fn source(&self) -> &PipelineSource {
        &self.source
    }

    fn vae(&self) -> &autoencoder_kl::Config {
        &self.vae
    }

    fn latent_channels(&self) -> i64 {
        self.unet.in_channels
    }

    fn adapted_layers(&self) -> Result<Index> {
        adapters::layers(&self.source, &self.unet)
    }

    fn check_family(&self, request: &GenerateRequest) -> Result<()> {
        if let Some(control) = &request.control {
            controlnet::ControlFiles::open(&control.model, &self.source, &self.unet)?;
        }
        if let Some(choice) = &request.ip_adapter {
            AdapterFiles::open(&choice.file, &self.source, &self.unet)?;
            choice.check_pictures()?;
        }
        if request.safety_checker { self.needed_checker().map(drop) } else { Ok(()) }
    }

    /// As asked for, else that of the picture that steers, else the photo's own, cut to whole places, else the model's own.
    fn latent_size(&self, request: &GenerateRequest, i: usize) -> Result<(i64, i64)> {
        let (scale, (height, width)) = (self.vae.scale_factor(), self.default_size());
        let steering = request.control.as_ref().and_then(|control| control.images.get(i));
        let photo =
            steering.or(request.images.get(i)).map(|photo| (i64::from(photo.width()), i64::from(photo.height())));
        let side = |name: &str, asked: Option<usize>, photo: Option<i64>, own: i64| match (asked, photo) {
            (Some(pixels), _) if pixels > 0 && pixels as i64 % scale == 0 => Ok(pixels as i64 / scale),
            (Some(pixels), _) => {
                let nearest = ((pixels as i64 + scale / 2) / scale).max(1) * scale;
                Err(usage(format!(
                    "{name} {pixels} cannot be drawn: it must be a multiple of {scale}; nearest: {nearest}"
                )))
            }
            (None, Some(pixels)) if pixels < scale => {
                Err(usage(format!("a photo with {name} {pixels} is too small: at least {scale} are needed")))
            }
            (None, Some(pixels)) => Ok(pixels / scale),
            (None, None) => Ok(own / scale),
        };
        Ok((
            side("width", request.width, photo.map(|(width, _)| width), width)?,
            side("height", request.height, photo.map(|(_, height)| height), height)?,
        ))
    }

    fn steps(&self, request: &GenerateRequest) -> usize {
        request.steps.unwrap_or(STEPS)
    }

    fn strength(&self, request: &GenerateRequest) -> f64 {
        request.strength.unwrap_or(STRENGTH)
    }

    fn sampler(&self, request: &GenerateRequest) -> &'static str {
        request.scheduler.unwrap_or(self.scheduler.name()).name()
    }

    fn solver(&self, request: &GenerateRequest, _size: (i64, i64)) -> Result<(Box<dyn Solver>, usize)> {
        let steps = self.steps(request);
        let options = &request.solver_options;
        let mut solver = match request.scheduler {
            Some(name) => self.source.scheduler(Some(name))?.schedule_with(steps, options)?,
            None => self.scheduler.schedule_with(steps, options)?,
        };
        if request.images.is_empty() {
            return Ok((solver, 0));
        }
        let strength = self.strength(request);
        let kept_out = first_step(steps, strength);
        if kept_out >= steps {
            return Err(usage(format!("strength {strength} of {steps} steps leaves no step: raise one of them")));
        }
        let first = kept_out * solver.order();
        solver.skip(first);
        Ok((solver, first))
    }
}
