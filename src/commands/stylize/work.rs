//! What one picture and a sheet of pictures have in common.

use std::path::Path;

use anyhow::Result;
use image::RgbImage;

use super::fitting::Fitted;
use crate::cli::StylizeArgs;
use crate::images::{self, ControlMap, Text};
use crate::models::{ControlRequest, GenerateRequest, Generated, Generator, IpAdapterChoice, LoraChoice};
use crate::runtime::{log_moment, shim};

/// What is to be drawn, before it is known how strongly and from which noise.
#[derive(Debug)]
pub struct Work {
    /// One for each style; one alone where the prompt was given.
    pub prompts: Vec<String>,
    /// The photo that is described or started from.
    pub fitted: Fitted,
    /// What a ControlNet reads.
    pub control: Option<ControlSource>,
}

/// What a ControlNet reads.
#[derive(Debug)]
pub enum ControlSource {
    /// What is computed of the photo.
    Photo(ControlMap),
    /// A picture that was given.
    Picture(RgbImage),
}

/// A batch of pictures of one strength: (which prompt, seed) for each.
pub fn request(args: &StylizeArgs, work: &Work, strength: Option<f64>, each: &[(usize, u64)]) -> GenerateRequest {
    // A photo is started from where it was given for that, or where a strength is given.
    let start = work.fitted.photo.as_ref().filter(|_| args.image.is_some() || strength.is_some());
    let size = work.fitted.size;
    GenerateRequest {
        prompts: each.iter().map(|(prompt, _)| work.prompts[*prompt].clone()).collect(),
        negative_prompt: args.negative_prompt.clone(),
        seeds: each.iter().map(|(_, seed)| *seed).collect(),
        steps: args.steps,
        guidance_scale: args.guidance_scale,
        width: size.map(|(width, _)| width).or(args.width),
        height: size.map(|(_, height)| height).or(args.height),
        images: start.map(|photo| vec![photo.clone(); each.len()]).unwrap_or_default(),
        strength,
        scheduler: args.scheduler,
        control: control(args, work, each.len()),
        ip_adapter: args.ip_adapter.as_ref().map(|file| IpAdapterChoice {
            file: file.clone(),
            pictures: args.ip_image.clone(),
            scale: args.ip_scale,
        }),
        loras: args.lora.iter().map(|text| LoraChoice::from(text.as_str())).collect(),
        safety_checker: args.safety_checker,
        ..GenerateRequest::default()
    }
}

/// What steers so many pictures.
fn control(args: &StylizeArgs, work: &Work, count: usize) -> Option<ControlRequest> {
    let (map, picture) = match work.control.as_ref()? {
        ControlSource::Photo(map) => (Some(*map), work.fitted.photo.as_ref()?),
        ControlSource::Picture(picture) => (None, picture),
    };
    Some(ControlRequest {
        model: args.controlnet.clone()?,
        map,
        images: vec![picture.clone(); count],
        scale: args.control_scale,
        start: args.control_start,
        end: args.control_end,
    })
}

/// Says what the generator has to say of a picture.
pub fn remark(drawn: &Generated) {
    if let Some(remark) = &drawn.remark {
        tracing::warn!("{remark}");
    }
}

/// Writes the picture. The generator's memory goes back to the device meanwhile, not when the process ends, which waits for it.
pub fn write(picture: &RgbImage, texts: &[Text], generator: Box<dyn Generator>, out: &Path) -> Result<()> {
    let mut written = Ok(());
    rayon::in_place_scope(|scope| {
        scope.spawn(|_| written = images::save_with(picture, out, texts));
        drop(generator);
        shim::empty_cache();
    });
    written?;
    log_moment("the picture is in its file");
    Ok(())
}
