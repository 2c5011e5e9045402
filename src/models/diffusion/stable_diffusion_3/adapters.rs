//! What files of low-rank adapters call the layers of Stable Diffusion 3.

use anyhow::Result;

use super::config::{CLIP_G, CLIP_L, Config, T5, TRANSFORMER};
use super::single_file::{original_layers, transformer};
use crate::models::diffusion::lora::{Index, Network};
use crate::models::diffusion::pipeline_part::{Part, Shapes};
use crate::models::diffusion::pipeline_source::PipelineSource;

/// The layers of the transformer and of the text encoders that are there.
pub fn layers(source: &PipelineSource, config: &Config) -> Result<Index> {
    let layers = config.num_layers;
    let denoiser = Network {
        part: TRANSFORMER,
        dotted: &["transformer", "diffusion_model", ""],
        flat: &["lora_unet", "lora_transformer"],
        originals: original_layers(layers),
        key_map: Box::new(move |name, entry| transformer(name, entry, layers)),
    };
    let mut networks = vec![
        encoder(source, CLIP_L, &["text_encoder"], &["lora_te1"])?,
        encoder(source, CLIP_G, &["text_encoder_2"], &["lora_te2"])?,
        (denoiser, source.shapes(TRANSFORMER)?),
    ];
    if source.has(T5.folder)? {
        networks.push(encoder(source, T5, &["text_encoder_3"], &["lora_te3"])?);
    }
    Ok(Index::new("Stable Diffusion 3", networks))
}

fn encoder(
    source: &PipelineSource,
    part: Part,
    dotted: &'static [&'static str],
    flat: &'static [&'static str],
) -> Result<(Network, Shapes)> {
    let key_map = Box::new(|name: &str, entry| Ok(vec![(name.to_string(), entry)]));
    Ok((Network { part, dotted, flat, originals: Vec::new(), key_map }, source.shapes(part)?))
}
