//! What files of low-rank adapters call the layers of Stable Diffusion 1 and 2.

use std::collections::BTreeSet;

use anyhow::Result;

use super::config::{TEXT_ENCODER, UNET};
use super::unet::Config;
use super::unet_config::PerSize;
use crate::models::diffusion::lora::{Index, Network};
use crate::models::diffusion::pipeline_source::PipelineSource;
use crate::models::diffusion::single_file::ldm;

/// The layers of both networks.
pub fn layers(source: &PipelineSource, config: &Config) -> Result<Index> {
    let (unet, text) = (source.shapes(UNET)?, source.shapes(TEXT_ENCODER)?);
    // The original layout counts blocks as if all sizes had as many layers.
    let per_size = match &config.layers_per_block {
        PerSize::One(layers) => Some(*layers),
        PerSize::Each(_) => None,
    };
    let names: BTreeSet<&str> = unet.keys().filter_map(|name| name.strip_suffix(".weight")).collect();
    let originals = per_size.map_or(Vec::new(), |layers| ldm::unet_originals(&names, layers));
    let network = Network {
        part: UNET,
        // Files of before diffusers 0.17 name no network: it is this one.
        dotted: &["unet", "diffusion_model", ""],
        flat: &["lora_unet"],
        originals,
        key_map: Box::new(move |name, entry| match per_size {
            Some(layers) => ldm::unet(name, entry, layers),
            None => Ok(vec![(name.to_string(), entry)]),
        }),
    };
    let text_encoder = Network {
        part: TEXT_ENCODER,
        dotted: &["text_encoder"],
        flat: &["lora_te", "lora_te1"],
        originals: Vec::new(),
        key_map: Box::new(|name, entry| Ok(vec![(name.to_string(), entry)])),
    };
    Ok(Index::new("Stable Diffusion 1 or 2", vec![(text_encoder, text), (network, unet)]))
}
