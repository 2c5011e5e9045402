//! What has a GPU load all that the networks compute with: one pass through the first layers, of weights that mean nothing.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::config::{CLIP_G, CLIP_L, T5};
use super::mmdit::{self, Mmdit};
use super::outline::Sd3Outline;
use super::prompt_encoding::T5_TOKENS;
use crate::checkpoints::Weights;
use crate::models::diffusion::pipeline_source::PipelineSource;
use crate::models::text::clip_text::{self, ClipText};
use crate::models::text::t5_encoder::{self, T5Encoder};
use crate::models::text::text_tokenizer::CLIP_TOKENS;

/// The last layer differs from those before.
const LAYERS: usize = 2;

/// The text encoders with one layer each read one text.
pub fn texts(source: &PipelineSource, device: Device, kind: Kind) -> Result<()> {
    let weights = Weights::blank(device, kind);
    let ids = |tokens: usize| Tensor::ones([1, tokens as i64], (Kind::Int64, Device::Cpu)).to_device(device);
    for part in [CLIP_L, CLIP_G] {
        // The first one gives its last layer but one.
        let config = clip_text::Config { num_hidden_layers: LAYERS, ..source.config(part.folder)? };
        let _ = ClipText::new(&weights, &config, true)?.forward(&ids(CLIP_TOKENS)).pooled;
    }
    if source.has(T5.folder)? {
        let config = t5_encoder::Config { num_layers: 1, ..source.config(T5.folder)? };
        let _ = T5Encoder::new(&weights, &config)?.forward(&ids(T5_TOKENS));
    }
    Ok(())
}

/// The denoiser with its first and last layer takes a step with guidance at its own size. What the autoencoder needs loads
/// while the device is busy with the steps.
pub fn pictures(outline: &Sd3Outline, device: Device, kind: Kind, float8: bool) -> Result<()> {
    let config = mmdit::Config { num_layers: LAYERS, ..outline.transformer.clone() };
    let weights = Weights::blank(device, kind).in_float8(float8);
    let denoiser = Mmdit::new(&weights, &config)?;
    // What fills memory is one more thing to load.
    let blank = |shape: &[i64]| Tensor::empty(shape, (kind, device));
    let prompt = blank(&[2, (CLIP_TOKENS + T5_TOKENS) as i64, config.joint_attention_dim]);
    let mmdit::Conditioning { context, modulations } =
        denoiser.condition(&prompt, &blank(&[2, config.pooled_projection_dim]), &[1.0]);
    let latents = blank(&[2, config.in_channels, config.sample_size, config.sample_size]);
    let _ = denoiser.forward(&latents, &context, &modulations.get(0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::models::diffusion::model::PipelineOutline;

    /// On a GPU nobody would hear of it.
    #[test]
    fn the_networks_can_be_rehearsed() {
        for model in ["with_t5", "without_t5", "like_sd35"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sd3").join(model);
            let source = PipelineSource::Folder(folder);
            let outline = Sd3Outline::read(source.clone()).unwrap();
            tch::no_grad(|| {
                texts(&source, Device::Cpu, Kind::Float).unwrap();
                pictures(&outline, Device::Cpu, Kind::Float, false).unwrap();
            });
        }
    }
}
