//! The networks that steer drawings beside their texts, and what they make of one request.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use tch::{Device, Kind};

use super::control::Control;
use super::controlnet::{ControlFiles, ControlNet};
use super::ip_adapter::{AdapterFiles, IMAGE_ENCODER, IpAdapter, PicturePrompt};
use super::kept::Kept;
use super::outline::SdOutline;
use crate::models::vision::image_encoder::ImageEncoder;
use crate::models::{GenerateRequest, IpAdapterChoice};

/// What steers one drawing beside its texts.
#[derive(Debug)]
pub struct Steered {
    pub net: Option<Control>,
    pub pictures: Option<PicturePrompt>,
}

/// Those that were asked for last stay for the next drawing.
#[derive(Debug, Default)]
pub struct SteeringNets {
    controlnet: Kept<ControlNet>,
    ip_adapter: Kept<IpAdapter>,
    /// Several adapters share it.
    image_encoder: Kept<ImageEncoder>,
}

impl SteeringNets {
    /// For pictures of this width and height in pixels, where `numbers` are the U-Net's.
    ///
    /// # Errors
    /// When a network cannot be read or does not fit the U-Net.
    pub fn steer(
        &self,
        request: &GenerateRequest,
        size: (i64, i64),
        outline: &SdOutline,
        numbers: (Device, Kind),
    ) -> Result<Steered> {
        let net = request.control.as_ref().map(|control| {
            let net = self.controlnet(&control.model, outline, numbers)?;
            Control::new(net, control, size, numbers.0)
        });
        // At scale 0 the pictures count for nothing.
        let choice = request.ip_adapter.as_ref().filter(|choice| choice.scale != 0.0);
        let pictures = choice.map(|choice| self.picture_prompt(choice, outline, numbers));
        Ok(Steered { net: net.transpose()?, pictures: pictures.transpose()? })
    }

    fn controlnet(&self, name: &str, outline: &SdOutline, (device, kind): (Device, Kind)) -> Result<Rc<ControlNet>> {
        self.controlnet.get(Path::new(name), || {
            let files = ControlFiles::open(name, &outline.source, &outline.unet)?;
            files.build(device, kind).with_context(|| format!("ControlNet {name}"))
        })
    }

    fn picture_prompt(
        &self,
        choice: &IpAdapterChoice,
        outline: &SdOutline,
        (device, kind): (Device, Kind),
    ) -> Result<PicturePrompt> {
        let adapter = self.ip_adapter.get(&choice.file, || {
            let files = AdapterFiles::open(&choice.file, &outline.source, &outline.unet)?;
            let extractor = outline.feature_extractor();
            let load = || match files.is_random() {
                true => ImageEncoder::random(&outline.source.config(IMAGE_ENCODER)?, device, kind),
                false => ImageEncoder::load(&files.encoder, extractor.as_deref(), device, kind),
            };
            let encoder = self.image_encoder.get(&files.encoder, load)?;
            let shown = choice.file.display();
            files.build(encoder, device, kind).with_context(|| format!("IP-Adapter {shown}"))
        })?;
        PicturePrompt::new(adapter, choice)
    }
}
