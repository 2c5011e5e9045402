//! Models that draw pictures: a folder a family, and what all of them share.

pub mod autoencoder_kl;
mod first_latents;
mod float32_fallback;
mod guidance;
mod guided_steps;
mod loading;
pub mod lora;
pub mod model;
pub mod pipeline;
mod pipeline_part;
mod pipeline_source;
mod single_file;
pub mod stable_diffusion;
pub mod stable_diffusion_3;
mod step_noise;
mod steps;
