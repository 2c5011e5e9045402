//! The parts of the pipeline, and the published sizes of version 1.5 to measure speed at.

use crate::models::diffusion::pipeline_part::Part;

pub const TEXT_ENCODER: Part = Part { folder: "text_encoder", stem: "model", parameters: 123_060_480 };
pub const UNET: Part = Part { folder: "unet", stem: "diffusion_pytorch_model", parameters: 859_520_964 };
pub const VAE: Part = Part { folder: "vae", stem: "diffusion_pytorch_model", parameters: 83_653_863 };
pub const SAFETY_CHECKER: Part = Part { folder: "safety_checker", stem: "model", parameters: 303_981_588 };
