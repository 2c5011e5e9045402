//! The tables of families and of built-in names. A new family is one row in [`FAMILIES`], another checkpoint of a family
//! one in [`MODELS`].

use super::captioners::{blip, phi4_multimodal};
use super::diffusion::stable_diffusion::{controlnet, ip_adapter};
use super::diffusion::{lora, stable_diffusion, stable_diffusion_3};
use super::family::Family;
use super::metric_nets::{alexnet, clip, csd, dinov2, inception};
use crate::error::{nearest, usage};

/// All families, in the order in which messages name them.
pub static FAMILIES: &[&Family] = &[
    &blip::FAMILY,
    &phi4_multimodal::FAMILY,
    &stable_diffusion_3::FAMILY,
    &stable_diffusion::FAMILY,
    &inception::ART_FAMILY,
    &inception::FID_FAMILY,
    &alexnet::FAMILY,
    &clip::FAMILY,
    &csd::FAMILY,
    &dinov2::FAMILY,
    &controlnet::FAMILY,
    &ip_adapter::FAMILY,
    &lora::FAMILY,
];

/// A built-in name.
#[derive(Debug)]
pub struct ModelEntry {
    pub name: &'static str,
    pub family: &'static Family,
    /// Where its files come from.
    pub source: ModelSource,
    /// What is downloaded of it, in megabytes, about; 0 of what is part of this repository.
    pub megabytes: u64,
    /// One line for `models list`.
    pub about: &'static str,
}

#[derive(Debug)]
pub enum ModelSource {
    /// `owner/name` on the Hugging Face hub: a folder.
    Hub(&'static str),
    /// One file of a repository on the Hugging Face hub.
    HubFile { repo: &'static str, file: &'static str },
    /// A file in torch's own cache; its name ends in the first digits of its sha256.
    Torch { file: &'static str, url: &'static str },
    /// A folder under `experiments/mini/`, part of this repository.
    Embedded(&'static str),
}

pub static MODELS: &[ModelEntry] = &[
    ModelEntry {
        name: "blip-base",
        family: &blip::FAMILY,
        source: ModelSource::Hub("Salesforce/blip-image-captioning-base"),
        megabytes: 990,
        about: "describes pictures in a short sentence; 0.25 B parameters",
    },
    ModelEntry {
        name: "blip-large",
        family: &blip::FAMILY,
        source: ModelSource::Hub("Salesforce/blip-image-captioning-large"),
        megabytes: 1880,
        about: "describes pictures in a short sentence; 0.47 B parameters",
    },
    ModelEntry {
        name: "phi-4-multimodal",
        family: &phi4_multimodal::FAMILY,
        source: ModelSource::Hub("microsoft/Phi-4-multimodal-instruct"),
        megabytes: 11200,
        about: "describes pictures as it is told to; 5.6 B parameters",
    },
    ModelEntry {
        name: "sd3-medium",
        family: &stable_diffusion_3::FAMILY,
        source: ModelSource::Hub("stabilityai/stable-diffusion-3-medium-diffusers"),
        megabytes: 15500,
        about: "draws pictures from text; 2 B parameters and 5.6 B of text encoders",
    },
    ModelEntry {
        name: "sd3.5-medium",
        family: &stable_diffusion_3::FAMILY,
        source: ModelSource::Hub("stabilityai/stable-diffusion-3.5-medium"),
        megabytes: 16300,
        about: "draws pictures from text; 2.5 B parameters and 5.6 B of text encoders",
    },
    ModelEntry {
        name: "sd3.5-large",
        family: &stable_diffusion_3::FAMILY,
        source: ModelSource::Hub("stabilityai/stable-diffusion-3.5-large"),
        megabytes: 27600,
        about: "the same, larger; 8.1 B parameters and 5.6 B of text encoders",
    },
    ModelEntry {
        name: "sd-v1-5",
        family: &stable_diffusion::FAMILY,
        source: ModelSource::Hub("stable-diffusion-v1-5/stable-diffusion-v1-5"),
        megabytes: 4270,
        about: "draws pictures from text, or from a photo and text; 1 B parameters",
    },
    ModelEntry {
        name: "controlnet-canny",
        family: &controlnet::FAMILY,
        source: ModelSource::Hub("lllyasviel/control_v11p_sd15_canny"),
        megabytes: 1450,
        about: "lets the edges of a picture steer sd-v1-5 (canny); 0.36 B parameters",
    },
    ModelEntry {
        name: "controlnet-lineart",
        family: &controlnet::FAMILY,
        source: ModelSource::Hub("lllyasviel/control_v11p_sd15_lineart"),
        megabytes: 1450,
        about: "lets the lines of a picture steer sd-v1-5 (lineart); 0.36 B parameters",
    },
    ModelEntry {
        name: "ip-adapter",
        family: &ip_adapter::FAMILY,
        source: ModelSource::HubFile { repo: "h94/IP-Adapter", file: "models/ip-adapter_sd15.safetensors" },
        megabytes: 2570,
        about: "lets sd-v1-5 draw after pictures (IP-Adapter); 22 M parameters and 0.63 B of its image encoder",
    },
    ModelEntry {
        name: "ip-adapter-plus",
        family: &ip_adapter::FAMILY,
        source: ModelSource::HubFile { repo: "h94/IP-Adapter", file: "models/ip-adapter-plus_sd15.safetensors" },
        megabytes: 2630,
        about: "the same, closer to the pictures; 49 M parameters and 0.63 B of its image encoder",
    },
    ModelEntry {
        name: "art-inception",
        family: &inception::ART_FAMILY,
        source: ModelSource::HubFile { repo: "matthias-wright/art_inception", file: "art_inception.pth" },
        megabytes: 100,
        about: "the features in which ArtFID compares pictures",
    },
    ModelEntry {
        name: "inception-v3",
        family: &inception::FID_FAMILY,
        source: ModelSource::Torch {
            file: "pt_inception-2015-12-05-6726825d.pth",
            url: "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        },
        megabytes: 96,
        about: "the features in which FID and KID are published, as pytorch-fid has them",
    },
    ModelEntry {
        name: "lpips-alex",
        family: &alexnet::FAMILY,
        source: ModelSource::Torch {
            file: "alexnet-owt-7be5be79.pth",
            url: "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        },
        megabytes: 244,
        about: "AlexNet, the trunk of LPIPS; the heads are part of this repository",
    },
    ModelEntry {
        name: "clip-vit-b-32",
        family: &clip::FAMILY,
        source: ModelSource::Hub("openai/clip-vit-base-patch32"),
        megabytes: 605,
        about: "how well pictures and texts fit each other: CLIPScore, clip_text, clip_image",
    },
    ModelEntry {
        name: "clip-vit-l-14",
        family: &clip::FAMILY,
        source: ModelSource::Hub("openai/clip-vit-large-patch14"),
        megabytes: 1710,
        about: "the same, larger",
    },
    ModelEntry {
        name: "clip-vit-l-14-336",
        family: &clip::FAMILY,
        source: ModelSource::Hub("openai/clip-vit-large-patch14-336"),
        megabytes: 1710,
        about: "the same, of larger pictures: the features of CMMD",
    },
    ModelEntry {
        name: "csd-vit-l",
        family: &csd::FAMILY,
        source: ModelSource::HubFile { repo: "tomg-group-umd/CSD-ViT-L", file: "pytorch_model.bin" },
        megabytes: 1220,
        about: "the style of a picture (contrastive style descriptors); 0.3 B parameters",
    },
    ModelEntry {
        name: "dinov2-base",
        family: &dinov2::FAMILY,
        source: ModelSource::Hub("facebook/dinov2-base"),
        megabytes: 346,
        about: "what a picture shows: the metric dino, and fd_dinov2",
    },
    ModelEntry {
        name: "dinov2-large",
        family: &dinov2::FAMILY,
        source: ModelSource::Hub("facebook/dinov2-large"),
        megabytes: 1220,
        about: "the same, larger: the features in which FD-DINOv2 is published",
    },
    ModelEntry {
        name: "mini-blip",
        family: &blip::FAMILY,
        source: ModelSource::Embedded("models/mini-blip"),
        megabytes: 0,
        about: "blip-base, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-phi-4-multimodal",
        family: &phi4_multimodal::FAMILY,
        source: ModelSource::Embedded("models/mini-phi-4-multimodal"),
        megabytes: 0,
        about: "phi-4-multimodal, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-sd3",
        family: &stable_diffusion_3::FAMILY,
        source: ModelSource::Embedded("models/mini-sd3"),
        megabytes: 0,
        about: "sd3-medium, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-sd-v1-5",
        family: &stable_diffusion::FAMILY,
        source: ModelSource::Embedded("models/mini-sd-v1-5"),
        megabytes: 0,
        about: "sd-v1-5, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-art-inception",
        family: &inception::ART_FAMILY,
        source: ModelSource::Embedded("models/mini-art-inception"),
        megabytes: 0,
        about: "art-inception, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-lpips",
        family: &alexnet::FAMILY,
        source: ModelSource::Embedded("models/mini-lpips"),
        megabytes: 0,
        about: "lpips-alex, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-clip",
        family: &clip::FAMILY,
        source: ModelSource::Embedded("models/mini-clip"),
        megabytes: 0,
        about: "clip-vit-b-32, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-csd",
        family: &csd::FAMILY,
        source: ModelSource::Embedded("models/mini-csd"),
        megabytes: 0,
        about: "csd-vit-l, tiny, part of this repository",
    },
    ModelEntry {
        name: "mini-controlnet-canny",
        family: &controlnet::FAMILY,
        source: ModelSource::Embedded("models/mini-controlnet-canny"),
        megabytes: 0,
        about: "controlnet-canny for mini-sd-v1-5, part of this repository",
    },
    ModelEntry {
        name: "mini-ip-adapter",
        family: &ip_adapter::FAMILY,
        source: ModelSource::Embedded("models/mini-ip-adapter"),
        megabytes: 0,
        about: "ip-adapter for mini-sd-v1-5, part of this repository",
    },
    ModelEntry {
        name: "mini-lora-sd-v1-5",
        family: &lora::FAMILY,
        source: ModelSource::Embedded("models/mini-lora-sd-v1-5"),
        megabytes: 0,
        about: "a style for mini-sd-v1-5 (LoRA), part of this repository",
    },
    ModelEntry {
        name: "mini-lora-sd3",
        family: &lora::FAMILY,
        source: ModelSource::Embedded("models/mini-lora-sd3"),
        megabytes: 0,
        about: "a style for mini-sd3 (LoRA), part of this repository",
    },
];

/// The row of this name, where it is a built-in one.
pub fn built_in(name: &str) -> Option<&'static ModelEntry> {
    MODELS.iter().find(|entry| entry.name == name)
}

/// The row of a built-in name.
///
/// # Errors
/// Wrong usage: there is none of this name.
pub fn find(name: &str) -> anyhow::Result<&'static ModelEntry> {
    built_in(name).ok_or_else(|| {
        usage(format!(
            "no model is called {name:?}{} (`toolkit models list` shows the names)",
            nearest(name, MODELS.iter().map(|entry| entry.name))
        ))
    })
}
