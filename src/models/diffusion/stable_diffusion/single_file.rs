//! The layout of Stable Diffusion v1.5 in one file.

use anyhow::Result;

use crate::checkpoints::Checkpoint;
use crate::models::diffusion::single_file::{SingleFile, SingleFileLayout, ldm};

pub const LAYOUT: SingleFileLayout = SingleFileLayout {
    // The configuration files of stable-diffusion-v1-5/stable-diffusion-v1-5.
    published: include_str!("published.json"),
    variants: &[],
    sized: |_, _, config| config,
    prefixes: &[
        ("unet", "model.diffusion_model"),
        ("vae", "first_stage_model"),
        ("text_encoder", "cond_stage_model.transformer"),
    ],
    convert,
    whole: "use a file of the whole pipeline (v1-5-pruned-emaonly.safetensors)",
    clip: &[("tokenizer", "text_encoder", "<|endoftext|>")],
    t5: None,
};

fn convert(single: &SingleFile, part: &str, tensors: Checkpoint) -> Result<Checkpoint> {
    if part != "unet" {
        return single.shared(part, tensors);
    }
    let layers = single.number("unet", "layers_per_block")?;
    tensors.convert(|name, entry| ldm::unet(name, entry, layers))
}
