//! What `toolkit bench` lets change or steer the drawing: low-rank adapters, a ControlNet, an IP-Adapter.

use anyhow::Result;
use image::RgbImage;
use tch::Device;
use tempfile::NamedTempFile;

use super::figures::{Figures, median, timed};
use crate::cli::BenchArgs;
use crate::images;
use crate::models::{
    ControlMap, ControlRequest, GenerateRequest, IpAdapterChoice, LoraChoice, PhasedGenerator, locate_controlnet,
    locate_ip_adapter, locate_lora, split_weight,
};
use crate::runtime::Runtime;

/// What there is of it, and the picture that an IP-Adapter is shown, which lasts as long.
#[derive(Debug)]
pub struct Steering {
    pub loras: Vec<LoraChoice>,
    control: Option<ControlRequest>,
    ip_adapter: Option<IpAdapterChoice>,
    _shown: Option<NamedTempFile>,
}

impl Steering {
    /// As it was asked for, with `picture` for each of the pictures to be drawn; what is on the hub comes here.
    pub fn of(args: &BenchArgs, picture: &RgbImage, rt: &Runtime) -> Result<Self> {
        args.lora.iter().try_for_each(|text| locate_lora(split_weight(text).0, rt.offline).map(drop))?;
        // With random weights theirs are random too.
        if !args.random_weights {
            args.controlnet.iter().try_for_each(|name| locate_controlnet(name, rt.offline).map(drop))?;
            let mut adapters = args.ip_adapter.iter();
            adapters.try_for_each(|name| locate_ip_adapter(&name.to_string_lossy(), rt.offline).map(drop))?;
        }
        let control = |model: &String| ControlRequest {
            model: model.clone(),
            map: Some(ControlMap::Canny),
            images: vec![picture.clone(); args.batch_size.unwrap_or(1)],
            ..ControlRequest::default()
        };
        let mut shown = None;
        if args.ip_adapter.is_some() {
            let file = tempfile::Builder::new().suffix(".png").tempfile()?;
            images::save(picture, file.path())?;
            shown = Some(file);
        }
        let after = |(file, shown): (_, &NamedTempFile)| IpAdapterChoice {
            file,
            pictures: vec![shown.path().to_path_buf()],
            scale: 1.0,
        };
        Ok(Self {
            loras: args.lora.iter().map(|text| LoraChoice::from(text.as_str())).collect(),
            control: args.controlnet.as_ref().map(control),
            ip_adapter: args.ip_adapter.clone().zip(shown.as_ref()).map(after),
            _shown: shown,
        })
    }

    /// The request with all of it.
    pub fn put_into(&self, request: GenerateRequest) -> GenerateRequest {
        GenerateRequest {
            loras: self.loras.clone(),
            control: self.control.clone(),
            ip_adapter: self.ip_adapter.clone(),
            ..request
        }
    }

    /// Whether something is read of pictures before the first step.
    pub fn reads_pictures(&self) -> bool {
        self.control.is_some() || self.ip_adapter.is_some()
    }

    /// How long merging the low-rank adapters takes the first time, and later, and taking them out.
    pub fn time_merging(
        &self,
        generator: &dyn PhasedGenerator,
        repeat: usize,
        device: Device,
        figures: &mut Figures,
    ) -> Result<()> {
        if self.loras.is_empty() {
            return Ok(());
        }
        let switch = |loras: &[LoraChoice]| timed(device, || generator.adapt(loras)).map(|(_, seconds)| seconds);
        figures.add("lora_first_merge_seconds", switch(&self.loras)?);
        let (mut merging, mut removing) = (Vec::new(), Vec::new());
        for _ in 0..repeat {
            removing.push(switch(&[])?);
            merging.push(switch(&self.loras)?);
        }
        figures.add("lora_merge_seconds", median(&mut merging));
        figures.add("lora_removal_seconds", median(&mut removing));
        Ok(())
    }
}
